#!/usr/bin/env bash
# Make the images that the videos of a config start from: bash run_sample_image.sh CONFIG [flags of scripts/inference.py]
# The images go where the video script reads them (reference_path).
. "$(dirname "$0")/scripts/sample.sh"
sample "$1" --image "${@:2}"
