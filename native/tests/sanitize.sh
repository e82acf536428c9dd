#!/usr/bin/env bash
# Builds native/tests/{stress,tape}.cpp with sanitizers and runs them: addresses and undefined behaviour, then threads.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
compiler=${CXX:-g++}
command -v "$compiler" >/dev/null || { echo "no C++ compiler ($compiler): set CXX to one" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
flags=(-std=c++17 -O1 -g -fno-omit-frame-pointer -fno-math-errno -fno-trapping-math -ffp-contract=fast -Wno-psabi -pthread
  -DPLANAHEAD_FEW_SIZES)
kernels=("generic 16")
if [[ $(uname -m) == x86_64 ]]; then
  flags+=(-DPLANAHEAD_X86)
  kernels+=("avx2 32 -mavx2 -mfma" "avx512 64 -mavx512f -mavx512dq -mavx512vl -mfma")
fi
for sanitizer in address,undefined thread; do
  objects=()
  compilations=()
  for kernel in "${kernels[@]}"; do
    read -r name bytes options <<<"$kernel"
    for precision in "$name" "${name}_single -DPLANAHEAD_SINGLE"; do
      read -r isa single <<<"$precision"
      # shellcheck disable=SC2086
      "$compiler" "${flags[@]}" $options $single -fsanitize=$sanitizer -fno-sanitize-recover=all \
        -DPLANAHEAD_ISA="$isa" -DPLANAHEAD_BYTES="$bytes" -c ../src/kernel.cpp -o "$folder/$isa.o" &
      compilations+=($!)
      objects+=("$folder/$isa.o")
    done
    # shellcheck disable=SC2086
    "$compiler" "${flags[@]}" $options -fsanitize=$sanitizer -fno-sanitize-recover=all \
      -DPLANAHEAD_ISA="$name" -DPLANAHEAD_BYTES="$bytes" -c ../src/tape.cpp -o "$folder/${name}_tape.o" &
    compilations+=($!)
    objects+=("$folder/${name}_tape.o")
  done
  for compilation in "${compilations[@]}"; do wait "$compilation"; done
  echo "== $sanitizer"
  for test in stress tape; do
    "$compiler" "${flags[@]}" -fsanitize=$sanitizer -fno-sanitize-recover=all $test.cpp "${objects[@]}" -o "$folder/$test"
    "$folder/$test"
  done
done
