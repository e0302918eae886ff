#!/usr/bin/env bash
# Rules of the repository that no compiler checks. Prints every breach and fails if there is one.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
breaches=0

breach() {
    printf '%s\n' "$*" >&2
    breaches=$((breaches + 1))
}

# The files under version control, or all but the build's and the runs' where there is no git (a source archive).
sources() {
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files --cached --others --exclude-standard
    else
        find . -type f -not -path './target/*' -not -path './results/*' -not -path './.git/*' | sed 's|^\./||'
    fi | while IFS= read -r file; do
        if [[ -f $file ]]; then printf '%s\n' "$file"; fi
    done
}

# Commands that the README names exist and can be run.
if [[ -f README.md ]]; then
    commands=$(grep -oE '(\./)?(scripts|\.ci)/[A-Za-z0-9_.-]*[A-Za-z0-9]' README.md | sed 's|^\./||' | sort -u || true)
    [[ -n $commands ]] || breach "README.md names no script; scripts/bench and scripts/test belong there"
    for command in $commands; do
        if [[ -d $command ]]; then
            continue
        elif [[ ! -f $command ]]; then
            breach "README.md names $command, which does not exist"
        elif [[ $command != *.md && ! -x $command ]]; then
            breach "README.md names $command, which is not executable"
        fi
    done
else
    breach "README.md is missing"
fi
for command in scripts/bench scripts/test scripts/nightly scripts/gate-study scripts/setup.sh scripts/checks.sh .ci/run; do
    [[ -x $command ]] || breach "$command is not executable"
done

# `unsafe` has three rooms. The lint `unsafe_code` guards the crates; this guards against lifting the lint elsewhere,
# and sees code that is not compiled here.
rooms='^(harness/src/sys(/|\.rs$)|harness/src/codec/|workloads/guest/)'
while IFS= read -r file; do
    if [[ $file =~ $rooms ]]; then continue; fi
    while IFS= read -r line; do
        breach "unsafe outside of its rooms: $file:$line"
    done < <(grep -nE '(^|[^A-Za-z0-9_"])unsafe[[:space:]]*(\{|\(|fn[[:space:]]|impl[[:space:]<]|extern[[:space:]]|trait[[:space:]]|$)' "$file" |
        grep -vE '^[0-9]+:[[:space:]]*//' || true)
done < <(sources | grep -E '\.rs$')

# The modules of the harness, from the top: an import may only point down (CONTRIBUTING.md shows the picture).
layers='fuzz cli doctor runner track peer node engine dirty guest cache vm codec wire host sys'
# shellcheck disable=SC2016 # awk's fields
while IFS= read -r line; do
    breach "$line"
done < <(sources | grep -E '^harness/src/.*\.rs$' | tr '\n' '\0' | xargs -0 awk -v layers="$layers" '
    BEGIN { for (n = split(layers, name, " "); n > 0; n--) depth[name[n]] = n; depth["lib"] = depth["main"] = -1 }
    FNR == 1 {
        from = FILENAME
        sub(/^harness\/src\//, "", from); sub(/[\/.].*/, "", from)
        if (!(from in depth)) print FILENAME ": the module " from " has no place among the layers of scripts/checks.sh"
    }
    /^ *\/\// { next }
    /(^|[^a-z_])super::super::/ { print "two `super` in a row hide where an import points: name the module by `crate::`: " FILENAME ":" FNR ":" $0 }
    # A list of imports may go over lines.
    open != "" || /crate::\{/ {
        open = open $0
        if (gsub(/\{/, "{", open) > gsub(/\}/, "}", open) && $0 !~ /;/) next
        $0 = open
        open = ""
    }
    {
        rest = $0
        # Both `crate::name` and the names at the top of `crate::{name, ...}`.
        while (match(rest, /crate::(\{|[a-z_]+)/)) {
            names = substr(rest, RSTART + 7, RLENGTH - 7)
            if (substr(rest, RSTART - 1, 1) == "$") names = ""
            rest = substr(rest, RSTART + RLENGTH)
            if (names == "{") {
                names = ""
                for (inside = 1; inside > 0 && rest != ""; rest = substr(rest, 2)) {
                    letter = substr(rest, 1, 1)
                    if (letter == "{") inside++
                    if (inside == 1 && letter != "}") names = names letter
                    if (letter == "}") inside--
                }
            }
            gsub(/ /, "", names)
            for (n = split(names, to, ","); n > 0; n--) {
                sub(/::.*/, "", to[n])
                if (to[n] in depth && depth[to[n]] < depth[from])
                    print "an import that points up, from " from " to " to[n] ": " FILENAME ":" FNR ":" $0
            }
        }
    }')

# A path of somebody's machine works nowhere else.
while IFS= read -r file; do
    while IFS= read -r line; do
        breach "path of a machine: $file:$line"
    done < <(grep -nIE '(^|[^A-Za-z0-9_.~-])/(root|home|work|Users)/|/tmp/(wt|tgt)-' "$file" || true)
done < <(sources | grep -vE '^(Cargo\.lock|LICENSE)')

# The scripts themselves, where the checker is installed.
if command -v shellcheck >/dev/null; then
    shellcheck -x scripts/bench scripts/test scripts/nightly scripts/gate-study scripts/fuzz scripts/other-host scripts/*.sh .ci/run || breach "shellcheck complains"
fi

if ((breaches)); then
    printf '%d breaches\n' "$breaches" >&2
    exit 1
fi
