#!/usr/bin/env bash
# What a build needs to know of this machine, asked of it, for the Makefile and run.sh:
#   tools/gpu.sh architectures amd|nvidia   those of its cards, as in gfx90a,gfx1100. A card without a matrix tile (hip/platform)
#                                           is left out with a line on stderr; if all are, stdout says so, exit code 1
#   tools/gpu.sh with_tile ARCHITECTURE ... those of these that have a matrix tile
#   tools/gpu.sh toolkit amd|nvidia         the folder where ROCm or CUDA lies, or nothing
# MACHINE_ROOT: the folder to take for /, for tests.
set -euo pipefail
shopt -s nullglob
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
MACHINE_ROOT=${MACHINE_ROOT-}

# first_with FILES FOLDER ...: the first folder that holds what one of the patterns FILES, with | between them, names.
first_with() {
  local folder file files
  IFS='|' read -ra files <<<"$1"
  shift
  for folder in "$@"; do
    for file in "${files[@]}"; do
      if [[ -n $folder && -n $(compgen -G "$folder/$file") ]]; then
        printf '%s\n' "$folder"
        return
      fi
    done
  done
  return 1
}

# The folder above the one of a program on PATH.
prefix_of() {
  local path
  path=$(command -v "$1") || return 0
  path=$(readlink -f "$path")
  printf '%s\n' "${path%/*/*}"
}

# Where the variables say, else where the program on PATH lies, else in its usual place, else in the newest folder with a number.
toolkit() {
  local files newest=()
  case $1 in
    amd)
      files='bin/hipcc|lib/libamdhip64.so*'
      first_with "$files" "${ROCM_PATH-}" "$(prefix_of hipcc)" "$MACHINE_ROOT/opt/rocm" && return
      newest=("$MACHINE_ROOT"/opt/rocm/core* "$MACHINE_ROOT"/opt/rocm-*)
      ;;
    nvidia)
      files=bin/nvcc
      first_with "$files" "${CUDA_HOME-}" "${CUDA_PATH-}" "$(prefix_of nvcc)" "$MACHINE_ROOT/usr/local/cuda" && return
      newest=("$MACHINE_ROOT"/usr/local/cuda-*)
      ;;
  esac
  [[ ${#newest[@]} == 0 ]] || mapfile -t newest < <(printf '%s\n' "${newest[@]}" | sort -rV)
  first_with "$files" "${newest[@]}" || :
}

# The names of the machine's AMD cards, a line each: from the first of three that knows any.
amd_cards() {
  local rocm names=()
  # HSA's runtime takes every card for this one.
  if [[ ${HSA_OVERRIDE_GFX_VERSION-} =~ ^([0-9]+)\.([0-9]+)\.([0-9]+)$ ]]; then
    printf 'gfx%d%x%x\n' "${BASH_REMATCH[@]:1}"
    return
  fi
  mapfile -t names < <(kfd_cards)
  rocm=$(toolkit amd)
  PATH=$PATH:$rocm/bin:$rocm/llvm/bin:$rocm/lib/llvm/bin
  [[ ${#names[@]} != 0 ]] || mapfile -t names < <(rocm_agent_enumerator 2>/dev/null | names_of_cards)
  [[ ${#names[@]} != 0 ]] || mapfile -t names < <(amdgpu-arch 2>/dev/null | names_of_cards)
  [[ ${#names[@]} == 0 ]] || printf '%s\n' "${names[@]}"
}

# Of lines as gfx90a:sramecc+:xnack-. gfx000 is a CPU.
names_of_cards() { sed -nE 's/^(gfx[0-9a-f]{3,})(:.*)?$/\1/; /^gfx000$/d; /^gfx/p'; }

# gfx_target_version is major * 10000 + minor * 100 + stepping, 0 for a CPU; older kernels have none.
kfd_cards() {
  local file version
  for file in "$MACHINE_ROOT"/sys/class/kfd/kfd/topology/nodes/*/properties; do
    version=$(sed -n 's/^gfx_target_version //p' "$file" 2>/dev/null) || continue # a card of another container
    [[ ${version:-0} == 0 ]] || printf 'gfx%d%x%x\n' $((version / 10000)) $((version / 100 % 100)) $((version % 100))
  done
}

# The same of NVIDIA's; Hopper's matrix instructions are in sm_90a alone.
nvidia_cards() {
  nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null |
    sed -nE 's/^([0-9]+)\.([0-9])$/sm_\1\2/; s/^sm_90$/sm_90a/; /^sm_/p'
}

has_tile() {
  local listed
  listed=$(sed -nE 's/^constexpr char k(Mfma|Wmma)Architectures\[\] = "(.*)";$/\2/p' "$PROJECT/hip/platform/tile_amd.h")
  case $1 in
    gfx*) [[ " ${listed//$'\n'/ } " == *" $1 "* ]] ;;
    sm_[1-7]?) false ;;
  esac
}

architectures() {
  local card cards list='' without=''
  mapfile -t cards < <("$1_cards" | sort -u)
  for card in "${cards[@]}"; do
    if has_tile "$card"; then list+=,$card; else without+=" $card"; fi
  done
  if [[ -n $list ]]; then
    [[ -z $without ]] || printf 'not built for, having no matrix instructions that the kernels are written for:%s\n' "$without" >&2
    printf '%s\n' "${list#,}"
  elif [[ -n $without ]]; then
    printf '%s has no matrix instructions that the kernels are written for; make GPU=host builds for the CPU' "${without# }"
    exit 1
  elif [[ $1 == nvidia && -e $MACHINE_ROOT/dev/nvidia0 ]]; then
    printf 'native\n'
  else
    case $1 in amd) card=gfx90a ;; nvidia) card=sm_90a ;; esac
    printf 'no card here that says what it is: building for %s; GPU_ARCH=... chooses another\n' "$card" >&2
    printf '%s\n' "$card"
  fi
}

# As a compiler takes them: gfx9-4-generic, gfx90a:xnack-.
with_tile() {
  local word name
  for word in "$@"; do
    name=${word%%:*}
    if has_tile "${name//-/_}"; then printf '%s\n' "$word"; fi
  done
}

case ${1-},${2-} in
  with_tile,*) "$@" ;;
  architectures,amd | architectures,nvidia | toolkit,amd | toolkit,nvidia) "$1" "$2" ;;
  *)
    printf 'usage: tools/gpu.sh architectures|toolkit amd|nvidia, or with_tile ARCHITECTURE ...\n' >&2
    exit 1
    ;;
esac
