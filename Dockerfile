# docker build -t opensora-adacache .
# docker run --rm --gpus all -v adacache-weights:/weights -v "$PWD/outputs:/outputs" opensora-adacache \
#     sample sample_adacache --save-dir /outputs
FROM nvidia/cuda:12.8.1-runtime-ubuntu24.04

# The distribution keeps only the newest version of a package, so a pinned one could not be installed for long.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /venv
ENV PATH=/venv/bin:$PATH

WORKDIR /build
# The dependencies change less often than the package: they get a layer of their own.
COPY constraints.txt pyproject.toml ./
RUN python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print('\n'.join(p['dependencies'] + p['optional-dependencies'].get('app', [])))" > requirements.txt \
    && pip install --no-cache-dir --requirement requirements.txt --constraint constraints.txt
COPY . .
RUN pip install --no-cache-dir --no-deps . && rm -rf /build

# Weights lie on a volume, so that a new image does not download them again.
ENV HF_HOME=/weights XDG_CACHE_HOME=/weights/cache
RUN useradd --create-home --uid 10001 adacache \
    && mkdir /weights /outputs \
    && chown adacache:adacache /weights /outputs
USER 10001
VOLUME ["/weights"]
WORKDIR /outputs
ENTRYPOINT ["opensora-adacache"]
CMD ["doctor"]
