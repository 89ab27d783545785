#!/usr/bin/env bash
# Make the videos of a config: bash run_sample_video.sh CONFIG [flags of scripts/inference.py]
# Only paths are set here, and only where the config leaves them open.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: bash run_sample_video.sh CONFIG [flags]" >&2; exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python}
if [ -z "${PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$root/.venv/bin/python" ]; then
    python=$root/.venv/bin/python
fi

config=$1
shift
exec "$python" "$root/scripts/inference.py" "$config" "$@" --cfg-defaults \
    prompt_path=assets/texts/gallery.txt \
    reference_path=samples/images/{prompts}
