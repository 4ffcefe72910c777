#!/usr/bin/env bash
# Runs nf-core's linter on the Nextflow module.
#
#   pip install nf-core==4.2.1
#   git clone https://github.com/nf-core/modules MODULES
#   tools/lint_nextflow.sh MODULES
#
# The linter asks `nextflow` for configurations and containers. Without one a stand-in answers that
# there are none; the tests of containers fail then, as they do for any module.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 MODULES" >&2; exit 2; }
modules=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone --quiet "$modules" "$work/modules"
git -C "$work/modules" checkout --quiet -B master
cp -r "$(dirname "$0")/../workflows/nextflow/modules/nf-core/vnp" "$work/modules/modules/nf-core/"
# The linter clones the repository again, for its schemas: from this copy.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_VALUE_0=https://github.com/nf-core/modules.git
export GIT_CONFIG_KEY_0="url.$work/modules.insteadOf" XDG_CONFIG_HOME="$work/config" XDG_CACHE_HOME="$work/cache"
if ! command -v nextflow >/dev/null; then
  mkdir "$work/bin"
  printf '#!/bin/sh\n[ "$1" != -v ] || echo "nextflow version 25.10.0.0"\n' >"$work/bin/nextflow"
  chmod +x "$work/bin/nextflow"
  PATH="$work/bin:$PATH"
fi
cd "$work/modules"
nf-core modules lint vnp/embed --plain-text
