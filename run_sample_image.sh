#!/usr/bin/env bash
# Make the reference images of a config's videos: bash run_sample_image.sh CONFIG [flags of scripts/inference.py]
# The images are written to the folder that the video script reads (reference_path).
. "$(dirname "$0")/scripts/sample.sh"
sample "$1" --image "${@:2}"
