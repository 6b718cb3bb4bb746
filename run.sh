#!/usr/bin/env bash
# The front door: ./run.sh help
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf '%s\n' "$*"; }
die() {
  printf 'run.sh: %s\n' "$*" >&2
  exit "${die_status:-1}"
}

# ---- help ------------------------------------------------------------------------------------------------------------

help_help() {
  cat <<'END'
usage: ./run.sh COMMAND [arguments]        ./run.sh COMMAND -h says more
  demo         the whole getp flow on a small random model, checked against the CPU reference
  test         all tests; the last line is "N passed, N failed, N skipped"
  build        the program ./run, for what this machine has
  run          ./run with the arguments that follow
  parity       CPU against HIP logits, step by step
  bench        speed of this machine's GPU, end to end and by kernel, as tables and as JSON
  export       model.bin from a snapshot of gpt-oss
  export-tokenizer  tokenizer.bin from a snapshot, or from tiktoken
  eval         a submission against references, request by request
  decode       token ids back to text
  install DIR  puts the patch set into an existing harness checkout
  clean        removes what was built
  help         this page
END
}

help_demo() {
  cat <<'END'
usage: ./run.sh demo [--shape 7m|tiny] [--gpu amd|nvidia|host | --amd]
Installs what is missing, builds ./run for this machine (or for the back end named with --gpu), makes a small random model
(experts in MXFP4, as in released ones) and its tokenizer in build/demo, generates for the 32 prompts of data/input.txt, shows three outputs as text (gibberish: the
weights are random), the throughput, and how many requests match the CPU reference token for token.
Exit code 1 unless all match.
  --amd   the same for the first 8 prompts on a simulated AMD card, so without a GPU: builds build/run_amd with hipcc for
          gfx90a, as for a real MI250, and executes its machine code on the CPU (docs/AMDSIM.md). The throughput is then the
          simulator's, not a card's.
END
}

help_test() {
  cat <<'END'
usage: ./run.sh test [--full | --quick] [--gpu] [-t SECONDS] [NAME ...]
Installs what is missing, then builds and runs the tests: every test program (tests/*_test.cpp) on the host back end, once more
with sanitizers, and those that run on a GPU on the simulated AMD device (docs/AMDSIM.md; needs hipcc, clang 19 and LLVM 19);
then the pytest files of tests/ (its fuzzing needs clang 19's libFuzzer).
  NAME      only this: a test program (matmul_test, sanitized-matmul_test, amdsim-hipcc-gfx90a-O3-matmul_test), a pytest file
            (test_decode), a suite or case of either by its own name (MatmulTest, test_one_line), or both (matmul_test::MatmulTest,
            test_decode::test_one_line); * and ? stand for others ('amdsim-*-matmul_test'). Only what that needs is built.
  --quick   the programs on the host back end, and the main job: getp against the CPU reference
  --full    also the long tests (sets GETP_TEST_FULL=1), and the simulator's own (NAME: simulator), which otherwise run only if it, its
            tests or its compilers are not as tests/amdsim/passed.txt says; they write it when they have passed
  --gpu     also the tests on this machine's GPU (sets GETP_TEST_GPU=1)
  -t, --timeout SECONDS   ends a program when one of its cases takes longer, counts it as failed and goes on (default: 1800)
Test data are looked for in $GETP_GOLDEN and $GETP_VOCAB, by default ../shared/golden and ../shared/vocab.
Reports and logs: build/reports. The last line is "N passed, N failed, N skipped"; exit code 1 if anything failed.
END
}

help_build() {
  cat <<'END'
usage: ./run.sh build [make target] [OUT=run]
Installs what is missing, then runs make: the target named, else runomp, or runfast where the compiler has no OpenMP.
  OUT=run                 the program to write
  GPU=amd|nvidia|host     the back end (default: what this machine has)
  GPU_ARCH=gfx90a,...     the architectures to build for (default: those of this machine's cards)
END
}

help_run() {
  cat <<'END'
usage: ./run.sh run [--srun] model.bin [arguments of ./run]
Runs ./run (built first if it is not there), with the libraries of ROCm on the path where it is found.
  --srun   as the first argument: through "srun --gres=gpu:1" (GPUS=N for N GPUs)
END
}

help_parity() {
  cat <<'END'
usage: ./run.sh parity model.bin [-z tokenizer.bin] [-i input.txt] [--prompts N] [--steps N]
Builds and runs build/parity: CPU against HIP logits over the prompts and their greedy continuation, with the largest
difference of each step and stage and whether the argmax agrees. Exit code 1 if an argmax differs, or a stage by more than
5e-4. Default: --prompts 4 --steps 32.
  -z   default: tokenizer.bin beside the model
  -i   default: data/input.txt
END
}

help_bench() {
  cat <<'END'
usage: ./run.sh bench [model.bin | --shape tiny|7m|20b|120b] [--json FILE]
       ./run.sh bench --kernel NAME|help [--rows N] [--form mxfp4|fp16] [model.bin | --shape SHAPE] [--position P] [--steps N]
                [--json FILE]
Builds build/bench and runs decoding steps of 1, 32, 512 and as many requests at a time as fit, from position 512 on (or half of
what the model has). Prints one table end to end (time of a step, tokens a second, bytes a step must read
against the measured copy bandwidth, rate of the products) and one by operation for each number of requests.
Without a model the weights are random, in values as released models have them, one layer's for all layers: of 20b's shape if
GPU and main memory have room (16 GB and 12 GB), else 7m; on the host back end tiny; or of --shape. Nothing is written to disk.
  --shape SHAPE the shape; 120b takes 67 GB on the GPU before caches, and 20 GB of main memory while it loads
  --json FILE   also writes the figures to FILE: what to send
  --kernel NAME times one kernel by itself on random values, at the shape of gpt-oss-20b, or of model.bin, of which only the
                header is read: median milliseconds of N launches (--steps, default 128) that take turns with buffers of 512 MB
                together, so that no cache holds them; the bytes that a launch must move, their share of the measured copy
                bandwidth, and the rate of what it computes. "--kernel help" lists the kernels.
                --rows N: rows (tokens) of a step, default 1; --position P: where they stand, default 512;
                --form mxfp4|fp16: of a product's weights, default mxfp4 for the experts', else fp16
  GPU=amd|nvidia|host, GPU_ARCH=gfx90a,..., HIP_DEVICE_ID=N, GETP_MEMORY=24G, GETP_BATCH=N and GETP_FAST=1 as for ./run;
  of several devices the one with the most free memory
END
}

help_export() {
  cat <<'END'
usage: ./run.sh export SNAPSHOT -o model.bin [--seq-len N] [--threads N]
       ./run.sh export --verify model.bin
Writes model.bin from a folder with config.json and *.safetensors, as OpenAI or Hugging Face lay them out, with experts in MXFP4,
BF16, FP16 or FP32, in one file or several: 83.7 GB for gpt-oss-20b, 467 GB for -120b. MXFP4 is expanded exactly. Memory stays under 3 GB.
Each tensor comes from the file that model.safetensors.index.json names, or, without one, from model*.safetensors.
Every tensor is checked by name, shape and type before the first byte is written, and every value when it is read: an infinity or
NaN ends the export with its tensor and index, and no file. The result's SHA-256 goes to model.bin.sha256;
--verify compares the two. An export that is interrupted leaves nothing behind (killed outright: model.bin.part, which the next one
replaces); run it again. A second export to the same file is refused while the first is writing.
  --seq-len N   positions of a sequence (default: config.json's max_seq_len, else 2048)
  --threads N   1 to 16, each of which takes memory (default: as many as there are cores, at most 8)
END
}

help_export_tokenizer() {
  cat <<'END'
usage: ./run.sh export-tokenizer -o tokenizer.bin [--snapshot FOLDER | --ranks o200k_base.tiktoken]
Writes tokenizer.bin: from the tokenizer.json of a snapshot, from OpenAI's file of ranks, or else from the Python package tiktoken,
which downloads it. All give the same file, but for special tokens (ids from 199998 on) that a fine-tuned snapshot renames or adds.
END
}

help_eval() { exec "$PYTHON" "$ROOT/tools/evaluate.py" -h; }

help_decode() {
  cat <<'END'
usage: ./run.sh decode [-z tokenizer.bin] [-n LINE|FIRST-LAST] [-r | -x] [FILE]
Builds ./decode and runs it: token ids of an output file, or of standard input, back to text.
  -n   this line only, or these, counted from 1
  -r   raw: the bytes as they are, with the control characters that are left out otherwise
  -x   the bytes of each token in hexadecimal digits
END
}

help_install() {
  cat <<'END'
usage: ./run.sh install DIR
Copies getp-csrc/getp_run.cpp and hip/ into the harness checkout DIR, and nothing else: run.cpp, getp_eval.cpp and the
Makefile there stay as they are. A getp_run.cpp that is replaced is kept as getp_run.cpp.orig (.orig.1, ... if that is
taken). A hip/ folder that is not as an install from here left it is not touched: the install is refused.
END
}

help_clean() {
  cat <<'END'
usage: ./run.sh clean
Runs "make clean" (programs, and ./tokenizer.bin, which is soon exported again) and removes build/ (demo models,
reports, Python environment). model.bin and data/ stay.
END
}

# ---- set-up ----------------------------------------------------------------------------------------------------------

PYTHON=${PYTHON:-/usr/bin/python3}
[[ -x $PYTHON ]] || PYTHON=python3

use_gpu_tools() {
  local cuda rocm
  cuda=$("$ROOT/tools/gpu.sh" toolkit nvidia)
  rocm=$("$ROOT/tools/gpu.sh" toolkit amd)
  export PATH="$PATH${cuda:+:$cuda/bin}${rocm:+:$rocm/bin}"
  if [[ -n $rocm && -n $(compgen -G "$rocm/lib/libamdhip64.so*") ]]; then
    export LD_LIBRARY_PATH="$rocm/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  fi
}

has_header() { g++ -E -x c++ - -o /dev/null 2>/dev/null <<<"#if !__has_include(<$1>)
#error
#endif"; }
has_module() { "$PYTHON" -c "from importlib.util import find_spec; exit(not find_spec('$1'))"; }

# Is what the Debian package brings there, wherever it came from?
have() {
  case $1 in
    libgtest-dev) has_header gtest/gtest.h ;;
    python3) command -v "$PYTHON" ;;
    python3-pytest) has_module pytest ;;
    python3-numpy) has_module numpy ;;
    python3-venv) "$PYTHON" -c 'import ensurepip, venv' ;;
    clang-tools-19) command -v clang-offload-bundler-19 ;;
    lld-19) command -v ld.lld-19 ;;
    llvm-19-dev) test -f /usr/lib/llvm-19/include/llvm-c/Disassembler.h ;;
    nlohmann-json3-dev) has_header nlohmann/json.hpp ;;
    libclang-rt-19-dev) test -f /usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-x86_64.a ;;
    *) command -v "$1" ;;
  esac >/dev/null 2>&1
}

missing_of() {
  local package
  for package in "$@"; do
    have "$package" || printf '%s ' "$package"
  done
}

# What the simulated AMD device needs, and what its tests need besides.
AMDSIM_PACKAGES=(hipcc llvm-19-dev nlohmann-json3-dev)
AMD_PACKAGES=("${AMDSIM_PACKAGES[@]}" clang-19 clang-tools-19 lld-19)

# set_up build|venv|amdsim|test: installs the Debian packages that are missing. For test those of AMD are a bonus: without them
# the tests that need them are skipped.
set_up() {
  local required=(g++ make python3) bonus=() missing wanted sudo=() package
  case $1 in
    venv) required=(python3 python3-venv) ;;
    amdsim) required+=("${AMDSIM_PACKAGES[@]}") ;;
    test)
      required+=(libgtest-dev python3-pytest python3-numpy)
      bonus=(python3-venv "${AMD_PACKAGES[@]}" libclang-rt-19-dev)
      ;;
  esac
  missing=$(missing_of "${required[@]}")
  wanted=$(missing_of "${bonus[@]}")
  [[ -n $missing$wanted ]] || return 0

  if ! command -v apt-get >/dev/null; then
    [[ -z $missing ]] || die "missing, and this is no Debian or Ubuntu: install what these packages hold there: $missing"
  elif [[ $(id -u) != 0 ]] && ! sudo -n true 2>/dev/null; then
    [[ -z $missing ]] || die "packages are missing; run: sudo apt-get install -y --no-install-recommends $missing$wanted"
  else
    [[ $(id -u) == 0 ]] || sudo=(sudo -n)
    sudo+=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
    say "set-up: installing Debian packages: $missing$wanted"
    "${sudo[@]}" update >/dev/null || say "set-up: apt-get update failed; going on with the package lists as they are"
    if [[ -n $missing ]]; then
      # shellcheck disable=SC2086  # a list of words
      "${sudo[@]}" install -y --no-install-recommends $missing >/dev/null || die "apt-get could not install: $missing"
    fi
    for package in $wanted; do
      if "${sudo[@]}" install -y --no-install-recommends "$package" >/dev/null 2>&1; then say "set-up: installed $package"; fi
    done
  fi
  wanted=$(missing_of "${bonus[@]}")
  [[ -z $wanted ]] || say "set-up: not to be had here: ${wanted}(the tests that need them are skipped)"
}

# Is build/venv there, for these requirements and the Python that it was made by?
has_venv() {
  local venv=$ROOT/build/venv
  cmp -s "$ROOT/tools/requirements.txt" "$venv/installed.txt" &&
    [[ -d $("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2>/dev/null) ]]
}

# The Python packages that Debian does not have, pinned, in build/venv; without a network the tests that need them skip.
set_up_venv() {
  local requirements=$ROOT/tools/requirements.txt venv=$ROOT/build/venv
  [[ -f $requirements ]] || return 0
  if ! has_venv; then
    say "set-up: Python packages of tools/requirements.txt into build/venv"
    rm -rf "$venv"
    mkdir -p "$ROOT/build"
    if "$PYTHON" -m venv --system-site-packages "$venv" >"$ROOT/build/venv.log" 2>&1 &&
      "$venv/bin/python" -m pip install -q --disable-pip-version-check --retries 1 --timeout 20 -r "$requirements" \
        >>"$ROOT/build/venv.log" 2>&1; then
      cp "$requirements" "$venv/installed.txt"
    else
      say "set-up: that failed (the tests that need them are skipped): $(tail -n 1 "$ROOT/build/venv.log")"
      return 0
    fi
  fi
  PYTHON=$venv/bin/python
}

# ---- building --------------------------------------------------------------------------------------------------------

has_openmp() { "$1" -fopenmp -x c++ - -o /dev/null 2>/dev/null <<<'#include <omp.h>
int main() { return omp_get_max_threads() == 0; }'; }

# The make target for the back end BACKEND (empty: this machine's): runomp, or runfast if its compiler has no OpenMP.
fast_target() {
  local compiler=g++
  if [[ $1 == amd || (-z $1 && -e /dev/kfd) ]] && command -v hipcc >/dev/null; then compiler=hipcc; fi
  if has_openmp "$compiler"; then say runomp; else say runfast; fi
}

# Ends where the checkout cannot be written: read-only, somebody else's, or root's after a run with sudo.
need_writable() {
  local folder
  for folder in "$ROOT" "$ROOT"/build "$ROOT"/build/*/ "$ROOT"/data; do
    [[ ! -e $folder || -w $folder ]] ||
      die "cannot write into '$folder', which belongs to $(stat -c %U "$folder"): copy the project, or build the program alone elsewhere:" \
        "./run.sh build OUT=/a/path/run"
  done
}

# make_here TARGET [VARIABLE=value ...]
make_here() {
  make -C "$ROOT" --no-print-directory -j "$(nproc)" ${GPU:+"GPU=$GPU"} ${GPU_ARCH:+"GPU_ARCH=$GPU_ARCH"} "$@"
}

# The same, where it may write what is not yet built.
build_with() {
  [[ " $*" =~ " OUT="(/|\.\./) ]] || make_here -q "$@" >/dev/null 2>&1 || need_writable
  make_here "$@"
}

# What GPU= or this machine asks for.
backend() { make_here -s backend; }

# ---- commands --------------------------------------------------------------------------------------------------------

cmd_help() { help_help; }

cmd_build() {
  set_up build
  warn_idle_card
  local word target=''
  for word in "$@"; do
    [[ $word == *=* ]] || target=$word # OUT=build/mine alone names none
  done
  [[ -n $target ]] || set -- "$(fast_target "${GPU-}")" "$@"
  build_with "$@"
}

# Says so where a card stays idle for want of its compiler.
warn_idle_card() {
  [[ -z ${GPU-} ]] || return 0
  if [[ -e /dev/kfd ]] && ! command -v hipcc >/dev/null; then
    say "an AMD card is here but no hipcc: the kernels run on the CPU; install ROCm (or Debian's hipcc) to use the card"
  elif [[ -e /dev/nvidia0 ]] && ! command -v nvcc >/dev/null; then
    say "an NVIDIA card is here but no nvcc: the kernels run on the CPU; install the CUDA toolkit to use the card"
  fi
}

cmd_demo() {
  local shape=7m gpu='' simulated=''
  while [[ $# -gt 0 ]]; do
    case $1 in
      --shape) shape=${2-} ;;
      --gpu) gpu=${2-} ;;
      --amd)
        simulated=yes
        shift
        continue
        ;;
      *) die "demo: unknown argument '$1'; see ./run.sh demo -h" ;;
    esac
    [[ $# -gt 1 ]] || die "demo: $1 needs a value; see ./run.sh demo -h"
    shift 2
  done
  [[ $shape == 7m || $shape == tiny ]] || die "demo: --shape is 7m or tiny, not '$shape'"
  [[ -z $simulated || -z $gpu ]] || die "demo: --amd is a simulated card; it goes without --gpu"
  [[ -z $gpu ]] || export GPU=$gpu
  [[ -z ${GPU-} || $GPU == amd || $GPU == nvidia || $GPU == host ]] || die "demo: the back end is amd, nvidia or host, not '$GPU'"

  local dir=build/demo program=./run environment=() input=data/input.txt requests
  need_writable
  mkdir -p "$ROOT/$dir"
  if [[ -n $simulated ]]; then
    set_up amdsim
    knows_hip || die "demo: --amd simulates HIP 5, and hipcc is another here"
    say "demo: building for gfx90a, and the simulated device"
    cd "$ROOT"
    program=build/run_amd
    environment=(LD_LIBRARY_PATH=build/amdsim AMDSIM=gfx90a)
    input=$dir/input.txt
    say 8 >$input
    sed -n 2,9p data/input.txt >>$input
    build_with amdsim
    build_with "$(fast_target amd)" GPU=amd GPU_ARCH=gfx90a OUT=$program
  else
    set_up build
    warn_idle_card
    say "demo: building"
    cd "$ROOT"
    build_with "$(fast_target "${GPU-}")"
  fi
  requests=$(head -n 1 $input)
  build_with decode build/make_model
  build/make_model "$shape" -o $dir/model.bin -z $dir/tokenizer.bin --seed 1 --mxfp4

  set -- "${environment[@]}" $program $dir/model.bin -z $dir/tokenizer.bin -m getp -i $input -o data/output.txt -n 64
  say "demo: $*"
  env -u GETP_CPU "$@" | tee $dir/run.log
  say "demo: the same on the CPU reference"
  env GETP_CPU=1 "${environment[@]}" $program $dir/model.bin -z $dir/tokenizer.bin -m getp -i $input -o $dir/reference.txt \
    -n 64 >$dir/reference.log

  local line matching
  for line in 1 $((requests / 2)) "$requests"; do
    say "demo: request $line: $(sed -n "$((line + 1))p" $input)"
    say "      -> $(./decode -z $dir/tokenizer.bin -n "$line" data/output.txt | head -n 1)"
  done
  matching=$(awk 'NR == FNR { ours[FNR] = $0; next } $0 != "" && $0 == ours[FNR] { n++ } END { print n + 0 }' \
    data/output.txt $dir/reference.txt)
  say "demo: throughput${simulated:+ of the simulator}: $(sed -n 's/.*TPS (tok\/s): *//p' $dir/run.log) tok/s (CPU reference:" \
    "$(sed -n 's/.*TPS (tok\/s): *//p' $dir/reference.log))"
  say "demo: $matching of $requests requests match the CPU reference token for token"
  [[ $matching == "$requests" ]]
}

# Is hipcc of the HIP that the simulated AMD device speaks?
knows_hip() { [[ $(hipcc --version 2>/dev/null) == *'HIP version: 5.'* ]]; }

cmd_test() {
  local kind variable missing
  need_writable
  set_up test
  cd "$ROOT"
  set_up_venv
  unset OMP_NUM_THREADS
  for kind in golden vocab; do
    variable=GETP_${kind^^}
    if [[ -z ${!variable-} && -d ../shared/$kind ]]; then export "$variable=$(cd "../shared/$kind" && pwd)"; fi
  done
  missing=$(missing_of "${AMD_PACKAGES[@]}")
  knows_hip || missing+='HIP 5'
  GETP_NO_AMDSIM=$missing exec "$PYTHON" tests/suite.py "$@"
}

cmd_run() {
  local launcher=() backend
  if [[ ${1-} == --srun ]]; then
    command -v srun >/dev/null || die "run: --srun, but there is no srun here"
    launcher=(srun "--gres=gpu:${GPUS:-1}")
    shift
  fi
  # A ./run that was built for another back end than GPU= or this machine asks for is built anew.
  backend=$(backend)
  if [[ ! -x $ROOT/run || $backend != "$(cat "$ROOT/build/run.backend" 2>/dev/null)" ]]; then cmd_build >&2; fi
  exec "${launcher[@]}" "$ROOT/run" "$@"
}

cmd_parity() {
  local model='' tokenizer='' input=$ROOT/data/input.txt rest=()
  while [[ $# -gt 0 ]]; do
    case $1 in
      -z | -i | --prompts | --steps)
        [[ $# -gt 1 ]] || die "parity: $1 needs a value; see ./run.sh parity -h"
        case $1 in
          -z) tokenizer=$2 ;;
          -i) input=$2 ;;
          *) rest+=("$1" "$2") ;;
        esac
        shift 2
        ;;
      -*) die "parity: unknown argument '$1'; see ./run.sh parity -h" ;;
      *)
        [[ -z $model ]] || die "parity: one model at a time, not also '$1'"
        model=$1
        shift
        ;;
    esac
  done
  [[ -n $model ]] || die "parity: which model? see ./run.sh parity -h"
  [[ -f $model ]] || die "parity: no model file '$model'"
  set_up build
  build_with build/parity
  exec "$ROOT/build/parity" "$model" "${tokenizer:-$(dirname "$model")/tokenizer.bin}" "$input" "${rest[@]}"
}

build_bench() {
  local openmp=()
  set_up build
  warn_idle_card
  if [[ $(fast_target "${GPU-}") == runfast ]]; then openmp=(OPENMP=); fi
  build_with build/bench "${openmp[@]}" >&2
}

cmd_bench() {
  local model='' json=() weights backend shape='' free main steps=32 positions position word
  for word in "$@"; do
    if [[ $word == --kernel || $word == --kernel=* ]]; then
      build_bench
      for word in "$@"; do [[ ! -f $word ]] || model=$word; done
      # The host back end would take minutes at 20b's shape.
      if [[ $(backend) == host* && -z $model && " $* " != *" --shape"* && " $* " != *" help "* ]]; then
        say "bench: the host back end: shape 7m (--shape chooses another)" >&2
        set -- "$@" --shape 7m
      fi
      exec "$ROOT/build/bench" "$@"
    fi
  done
  while [[ $# -gt 0 ]]; do
    case $1 in
      --json)
        [[ -n ${2-} ]] || die "bench: --json needs a file; see ./run.sh bench -h"
        json=(--json "$2")
        [[ -d $(dirname "$2") && ! -d $2 ]] || die "bench: cannot write '$2'"
        shift 2
        ;;
      --shape)
        shape=${2-}
        [[ $shape =~ ^(tiny|7m|20b|120b)$ ]] || die "bench: --shape is tiny, 7m, 20b or 120b, not '$shape'"
        shift 2
        ;;
      -*) die "bench: unknown argument '$1'; see ./run.sh bench -h" ;;
      *)
        [[ -z $model ]] || die "bench: one model at a time, not also '$1'"
        model=$1
        shift
        ;;
    esac
  done
  [[ -z $model || -f $model ]] || die "bench: no model file '$model'"
  [[ -z $model || -z $shape ]] || die "bench: --shape is instead of a model, not beside '$model'"
  build_bench
  backend=$(backend)
  # The host back end is no match for a GPU's defaults.
  if [[ $backend == host* ]]; then
    steps=8
    export GETP_BATCH=${GETP_BATCH:-512}
  fi
  if [[ -z $model$shape ]]; then
    shape=7m
    free=$("$ROOT/build/bench" --memory)
    main=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
    if [[ $backend == host* ]]; then
      shape=tiny
    elif ((free >= 16 * 10 ** 9 && main >= 12 * 10 ** 6)); then
      shape=20b
    fi
    say "bench: random weights of shape $shape"
  fi
  if [[ -n $shape ]]; then
    weights=(--shape "$shape")
  else
    weights=("$model")
  fi
  positions=$("$ROOT/build/bench" --positions "${weights[@]}")
  position=$((positions < 1024 ? positions / 2 : 512))
  steps=$((positions - position < steps ? positions - position : steps))
  exec "$ROOT/build/bench" "${weights[@]}" --batch 1,32,512,0 --position "$position" --steps "$steps" --kernels 1 "${json[@]}"
}

# python_tool TOOL [arguments]: with the packages of tools/requirements.txt
python_tool() {
  local tool=$1
  shift
  has_venv || need_writable
  set_up venv
  set_up_venv
  has_venv || die "$tool needs the Python packages of tools/requirements.txt; see build/venv.log"
  exec "$PYTHON" "$ROOT/tools/$tool.py" "$@"
}

cmd_export() { python_tool export_model "$@"; }

# Only tiktoken is no part of Python.
cmd_export_tokenizer() {
  case " $* " in
    *' --snapshot'* | *' --ranks'*) set_up build && exec "$PYTHON" "$ROOT/tools/export_tokenizer.py" "$@" ;;
    *) python_tool export_tokenizer "$@" ;;
  esac
}

cmd_eval() {
  local die_status=2 # 1: a threshold was missed
  python_tool evaluate "$@"
}

cmd_decode() {
  set_up build >&2
  build_with -s decode >&2
  exec "$ROOT/decode" "$@"
}

# What an install left in DIR: the sums of the files it put there, in this file.
STAMP=hip/.getp-hip

# left_by_install DIR PATH: is PATH (getp-csrc/getp_run.cpp or hip) in DIR just as the last install left it?
left_by_install() {
  [[ -f $1/$STAMP ]] || return 1
  (
    cd "$1"
    grep "  $2" $STAMP | sha256sum --status -c - &&
      [[ $(grep -c "  $2" $STAMP) == $(find "$2" -type f ! -path $STAMP | wc -l) ]]
  )
}

cmd_install() {
  [[ $# == 1 ]] || die "install: needs one directory; see ./run.sh install -h"
  local dir=$1 ours=$ROOT/getp-csrc/getp_run.cpp
  [[ -d $dir ]] || die "install: no directory '$dir'"
  [[ ! $dir -ef $ROOT ]] || die "install: '$dir' is this project itself; name another harness checkout"
  [[ -f $dir/run.cpp ]] || die "install: no run.cpp in '$dir': that is no getp harness checkout"
  [[ -f $dir/getp-csrc/getp_eval.cpp || -f $dir/getp_eval.cpp ]] ||
    die "install: no getp_eval.cpp in '$dir' or its getp-csrc: that is no getp harness checkout"
  if [[ -e $dir/hip ]] && ! left_by_install "$dir" hip && ! diff -rq "$ROOT/hip" "$dir/hip" >/dev/null 2>&1; then
    die "install: '$dir/hip' is not as an install from here left it; move it away, then install again"
  fi
  [[ -w $dir && (! -e $dir/getp-csrc || -w $dir/getp-csrc) && (! -e $dir/hip || -w $dir/hip) ]] ||
    die "install: cannot write into '$dir', which belongs to $(stat -c %U "$dir")"
  local target=$dir/getp-csrc/getp_run.cpp backup=$dir/getp-csrc/getp_run.cpp.orig number=0 new sums
  mkdir -p "$dir/getp-csrc"
  if [[ -f $target ]] && ! cmp -s "$ours" "$target" && ! left_by_install "$dir" getp-csrc/getp_run.cpp; then
    while [[ -e $backup ]]; do backup=$target.orig.$((++number)); done
    cp -p "$target" "$backup"
    say "install: kept the getp_run.cpp that was there as $backup"
  fi
  new=$(mktemp -d "$dir/hip.XXXXXX")
  cp -r "$ROOT/hip" "$new/hip"
  rm -rf "$dir/hip"
  mv "$new/hip" "$dir/hip"
  rmdir "$new"
  cp "$ours" "$target.new"
  mv "$target.new" "$target"
  sums=$(cd "$dir" && find hip getp-csrc/getp_run.cpp -type f ! -path $STAMP -exec sha256sum {} +)
  say "$sums" >"$dir/$STAMP"
  say "install: getp-csrc/getp_run.cpp and hip/ are in $dir; nothing else was touched"
  say "next:    cd $dir && make runfast && ./run model.bin -m getp -i data/input.txt -o data/output.txt"
}

cmd_clean() {
  [[ $# == 0 ]] || die "clean: takes no arguments"
  need_writable
  if command -v make >/dev/null; then make -C "$ROOT" --no-print-directory -s clean; fi
  rm -rf "$ROOT/build"
}

# ----------------------------------------------------------------------------------------------------------------------

command=${1:-help}
[[ $# == 0 ]] || shift
case $command in
  demo | test | build | run | parity | bench | export | export-tokenizer | eval | decode | install | clean | help) ;;
  -h | --help) command=help ;;
  *) die "unknown command '$command'; ./run.sh help lists them" ;;
esac
if [[ ${1-} == -h || ${1-} == --help ]]; then
  "help_${command//-/_}"
  exit 0
fi
use_gpu_tools
"cmd_${command//-/_}" "$@"
