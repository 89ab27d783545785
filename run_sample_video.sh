#!/usr/bin/env bash
# Make the videos of a config: bash run_sample_video.sh CONFIG [flags of scripts/inference.py]
. "$(dirname "$0")/scripts/sample.sh"
sample "$@"
