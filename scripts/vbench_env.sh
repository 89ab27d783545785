#!/usr/bin/env bash
# Create the separate virtual environment that VBench 0.1.5 needs: bash scripts/vbench_env.sh [FOLDER]
#
# PYTHON names the interpreter, 3.9 to 3.11 (numpy below 2 and transformers 4.33.2 have no builds for later versions).
# Four dimensions (object_class, multiple_objects, color, spatial_relationship) need detectron2, which is compiled from
# source and needs git and the CUDA toolkit (nvcc). Without them it is skipped, and the other twelve dimensions work.
set -euo pipefail

folder=${1:-vbench-env}
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))'; then
  echo "error: vbench 0.1.5 needs Python 3.9 to 3.11, got '$python'; set PYTHON to one of these" >&2
  exit 2
fi
if [ -e "$folder" ] && [ ! -f "$folder/pyvenv.cfg" ]; then
  echo "error: '$folder' exists and is not a virtual environment; name another folder" >&2
  exit 2
fi

"$python" -m venv "$folder"
pip=("$folder/bin/python" -m pip --disable-pip-version-check)
# openai-clip imports pkg_resources, which later versions of setuptools lack. torch 2.6 changed the default of torch.load,
# with which VBench's checkpoints cannot be loaded; VBench accepts CUDA up to 12.1, which torch 2.1.2 was built with.
# opencv 4.12 and later need numpy 2.
"${pip[@]}" install 'setuptools<70' wheel cython 'numpy<2'
"${pip[@]}" install torch==2.1.2 torchvision==0.16.2 'numpy<2'
"${pip[@]}" install --no-build-isolation vbench==0.1.5 transformers==4.33.2 'numpy<2' 'opencv-python<4.12' \
  torch==2.1.2 torchvision==0.16.2

if ! command -v nvcc > /dev/null; then
  echo "no nvcc found, detectron2 is skipped; object_class, multiple_objects, color and spatial_relationship will fail"
elif ! "${pip[@]}" install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'; then
  echo "no detectron2 (see above); object_class, multiple_objects, color and spatial_relationship will fail" >&2
fi
echo "done: python scripts/vbench.py VIDEOS --env $folder"
