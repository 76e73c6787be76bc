#!/usr/bin/env bash
# Downloads what check.sh needs on a machine with a GPU and without network, into a folder that is
# carried there with the checkout. Run it after `make setup`:
#
#     tests/gpu/prepare.sh                    # for Python 3.12, into .gpu-wheels
#     tests/gpu/prepare.sh --python 3.11 --there torch nvidia-cuda-nvrtc
#
# --python  version of the Python there, the one that has torch
# --there   packages that it has and that are not carried; by default torch, and what is large and
#           usual beside it (tests/gpu/wheels.py, LARGE)
# --folder  where the wheels go
set -euo pipefail
cd "$(dirname "$0")/../.."
python=.venv/bin/python
[ -x "$python" ] || python=python3
exec "$python" tests/gpu/wheels.py fetch "$@"
