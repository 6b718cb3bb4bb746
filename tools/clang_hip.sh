#!/usr/bin/env bash
# Compiles HIP with a plain clang where ROCm's own is too old for a card (Debian 12: HIP 5.2 with clang 15 knows neither
# gfx1151 nor, fully, gfx942):   tools/clang_hip.sh gfx942,gfx1100 [clang++ arguments]
# CLANG=clang++-19 chooses the compiler, HIP_PATH=/usr where HIP's headers and library lie.
#
# What a device library lacks for a new architecture is one constant, its ISA version; it is derived here from an
# existing one by changing the number (gfx90a is 9010, gfx942 is 9402, gfx1100 is 11000).
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: clang_hip.sh ARCH[,ARCH] [clang++ arguments]" >&2; exit 1; }
CLANG=${CLANG:-clang++-19}
HIP_PATH=${HIP_PATH:-/usr}
IFS=, read -ra archs <<<"$1"
shift

fail() { echo "clang_hip.sh: $*" >&2; exit 1; }
command -v "$CLANG" >/dev/null || fail "no $CLANG (Debian: apt-get install clang-19 clang-tools-19 lld-19)"
version=$("$CLANG" -dumpversion)
dis=$(command -v "llvm-dis-${version%%.*}") || fail "no llvm-dis-${version%%.*} (Debian: llvm-${version%%.*})"
as=$(command -v "llvm-as-${version%%.*}") || fail "no llvm-as-${version%%.*} (Debian: llvm-${version%%.*})"
base=
for folder in "$HIP_PATH/amdgcn/bitcode" /usr/lib/*/amdgcn/bitcode; do
  [ -f "$folder/oclc_isa_version_90a.bc" ] && base=$folder
done
[ -n "$base" ] || fail "no AMD device library (Debian: apt-get install hipcc)"

libs=$(mktemp -d)
trap 'rm -rf "$libs"' EXIT
ln -s "$base"/*.bc "$libs"
for arch in "${archs[@]}"; do
  name=${arch#gfx}
  [ -e "$libs/oclc_isa_version_$name.bc" ] && continue
  # The last two digits are minor version and stepping, in hexadecimal; the number counts in tens and hundreds.
  number=$((10#${name:0:${#name}-2} * 1000 + 16#${name: -2:1} * 100 + 16#${name: -1}))
  "$dis" "$base/oclc_isa_version_90a.bc" -o - | sed "s/i32 9010,/i32 $number,/" |
    "$as" -o "$libs/oclc_isa_version_$name.bc" -
done
flags=()
for arch in "${archs[@]}"; do flags+=("--offload-arch=$arch"); done
case " $* " in
  *" -c "* | *" -S "* | *" -fsyntax-only "*) link=() ;;
  *) link=("-L$(dirname "$(find "$HIP_PATH/lib" /usr/lib -name libamdhip64.so -print -quit)")" -lamdhip64) ;;
esac
"$CLANG" -x hip --rocm-path="$HIP_PATH" --rocm-device-lib-path="$libs" "${flags[@]}" "$@" "${link[@]}"
