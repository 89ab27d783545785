# Common part of run_sample_video.sh and run_sample_image.sh: runs scripts/inference.py with a config and flags.
# It only sets paths that the config leaves open. It is sourced with the caller's arguments.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: bash $(basename "$0") CONFIG [flags]" >&2; exit 2; }

root=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
if [ -z "${PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$root/.venv/bin/python" ]; then
    python=$root/.venv/bin/python
fi

sample() {
    exec "$python" "$root/scripts/inference.py" "$@" --cfg-defaults \
        prompt_path=assets/texts/gallery.txt \
        reference_path=samples/images/{prompts}
}
