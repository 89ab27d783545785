# What run_sample_video.sh and run_sample_image.sh share: scripts/inference.py with a config and flags.
# Only paths are set here, and only where the config leaves them open. Sourced, with the caller's arguments.
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
