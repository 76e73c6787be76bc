#!/usr/bin/env bash
# All checks that need a GPU, in less than six minutes, on a machine that has Python with torch and
# perhaps no network. What else is needed is taken from wheels that prepare.sh has downloaded.
#
#     tests/gpu/check.sh                  # on the machine with the GPU
#     tests/gpu/check.sh --rehearse       # on any: every part is run, with the CPU in its place
#
# --python  interpreter that has torch (default: $PYTHON, .venv/bin/python here, or python3)
# --wheels  folder that prepare.sh has filled (default .gpu-wheels)
# --out     where summary.md, summary.json, logs, tables and figures go (default $OUT, or results/gpu)
#
# Each part is given a share of the time and ends with it; one that fails does not keep the others
# from being run. The exit status is 0 if all parts passed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2

rehearse=0
python=${PYTHON:-}
wheels=.gpu-wheels
out=${OUT:-results/gpu}
while [ $# -gt 0 ]; do
    case $1 in
        --rehearse) rehearse=1; shift ;;
        --python) python=${2:?}; shift 2 ;;
        --wheels) wheels=${2:?}; shift 2 ;;
        --out) out=${2:?}; shift 2 ;;
        *) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2 ;;
    esac
done
if [ -z "$python" ]; then
    python=python3
    if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
fi
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$out/check.log
parts=$work/parts
: > "$log"
: > "$parts"
device=cuda
if [ $rehearse = 1 ]; then device=cpu; export DYSONFLOW_GPU_REHEARSAL=1; fi
# A rehearsal may be on a busy machine.
slower=$((1 + 4 * rehearse))
# Seconds for everything, the summary included, of six minutes.
total=$((350 * slower))
failed=0

say() { printf '%s\n' "$*" | tee -a "$log"; }

note() { printf '%s\t%s\t%s\t%s\n' "$@" >> "$parts"; }

# part NAME SECONDS COMMAND...: run it for as long at most, and note how it ended.
part() {
    local name=$1 limit=$(($2 * slower)) began=$SECONDS status last
    shift 2
    if [ $((SECONDS + limit)) -gt $total ]; then limit=$((total - SECONDS)); fi
    if [ $limit -lt 5 ]; then
        failed=1
        note "$name" 'out of time' 0 "not begun: the parts before it took $SECONDS s"
        say "== $name: not begun, $SECONDS s are over"
        return 1
    fi
    say "== $name (at most $limit s)"
    timeout --kill-after=5 "$limit" "$@" > "$work/said" 2>&1
    local code=$?
    cat "$work/said" >> "$log"
    last=$(grep -av '^[[:space:]]*$' "$work/said" | tail -n 1 | tr '\t' ' ' | cut -c1-300)
    case $code in
        0) status=passed ;;
        75) status=skipped ;;
        124 | 137) status='out of time'; failed=1 ;;
        *) status=failed; failed=1 ;;
    esac
    note "$name" "$status" "$((SECONDS - began))" "$last"
    say "   $status after $((SECONDS - began)) s: $last"
    [ $code = 0 ]
}

summarise() {
    PYTHONPATH=$PYTHONPATH_OF_ALL "$python" tests/gpu/summary.py "$parts" "$out" "$device"
    say "summary: $out/summary.md"
}

stop() {
    say "check.sh: $*"
    note "${stage:-check.sh}" failed 0 "$*"
    PYTHONPATH_OF_ALL=${PYTHONPATH_OF_ALL:-src} summarise
    exit 1
}

# ---- The environment ----------------------------------------------------------------------------
stage=environment
command -v "$python" > /dev/null || stop "there is no $python; give --python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || stop "$("$python" --version) is too old, 3.11 is needed; give --python"
"$python" -c 'import torch' > "$work/said" 2>&1 \
    || stop "$python has no torch: $(tail -n 1 "$work/said"); give --python"
version=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
needed=$("$python" tests/gpu/wheels.py lacking --folder "$wheels" 2> "$work/unmet") || {
    tee -a "$log" < "$work/unmet"
    stop "packages are missing for Python $version; on a machine with network: tests/gpu/prepare.sh --python $version"
}
tee -a "$log" < "$work/unmet"
site=$work/site
if [ -n "$needed" ]; then
    # Beside what is there, which stays as it is.
    # shellcheck disable=SC2086
    printf '%s\n' "$needed" > "$work/list"
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-warn-script-location \
        --disable-pip-version-check --target "$site" --requirement "$work/list" >> "$log" 2>&1 \
        || stop "the wheels in $wheels cannot be installed: $(tail -n 1 "$log")"
fi
export PYTHONPATH_OF_ALL=$PWD/src:$site${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH=$PYTHONPATH_OF_ALL
export MPLBACKEND=Agg
note environment passed "$SECONDS" "Python $version, $(printf '%s\n' "$needed" | grep -c .) packages installed from $wheels"

# ---- The card -----------------------------------------------------------------------------------
stage=GPU
why=$("$python" -c 'from dysonflow.simulation.devices import why_unusable; print(why_unusable())' 2>&1 | tail -n 1)
if [ -n "$why" ] && [ $rehearse = 0 ]; then
    stop "no GPU was found: $why (--rehearse tries all parts without)"
fi
note GPU "$([ -n "$why" ] && echo skipped || echo passed)" 0 "${why:-usable}"

# ---- The parts ----------------------------------------------------------------------------------
kernel='import sys; from dysonflow.simulation.kernel import library; sys.exit(not library.available())'
if ! "$python" -c "$kernel" 2>> "$log"; then
    part "kernel for the CPU" 70 "$python" setup.py -q egg_info build_ext --inplace
    part "kernel for the CPU, loaded" 10 "$python" -c "$kernel"
fi
tests() {
    local name=$1 limit=$2 xml=$3
    shift 3
    part "$name" "$limit" "${driver[@]}" "$python" -m pytest -p no:cacheprovider -rs -m gpu -o junit_family=xunit1 \
        --junitxml "$out/$xml" "$@" || return
    # On a GPU something must have been tested.
    if [ $rehearse = 0 ] && ! grep -aq ' passed' "$work/said"; then
        failed=1
        note "$name" failed 0 "all tests were skipped; check.log says why"
        say "   failed: all tests were skipped"
    fi
}
kernel_tests=tests/gpu/test_kernel_on_gpu.py
driver=()
# A rehearsal has a driver without a GPU, if there is a compiler for it.
if [ $rehearse = 1 ] && command -v g++ > /dev/null; then
    driver=("$python" tests/stub_driver.py "$work/driver")
fi
tests "tests of the kernel" 100 tests_of_kernel.xml $kernel_tests
driver=()
tests "tests of networks, laws and singular values" 130 tests.xml tests/gpu --ignore $kernel_tests
if [ -f benchmarks/gpu.py ]; then
    if [ $rehearse = 1 ]; then
        part "benchmark of the kernel" 30 "$python" benchmarks/gpu.py --help
    else
        part "benchmark of the kernel" 50 "$python" benchmarks/gpu.py --quick --out "$out/kernel.csv"
    fi
else
    note "benchmark of the kernel" skipped 0 "there is no benchmarks/gpu.py"
fi
part "study" 70 "$python" tests/gpu/study.py --device $device --work "$work/study" --out "$out"
quick=
if [ $rehearse = 1 ]; then quick=--quick; fi
part "cost of networks" 30 "$python" benchmarks/cost.py --device $device --seconds 0.5 $quick \
    --models mlp char_gpt --csv "$out/cost.csv"
part "singular values" 25 "$python" benchmarks/singular_values.py --device $device --quick \
    --csv "$out/singular_values.csv"
summarise
exit $failed
