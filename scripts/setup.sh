#!/usr/bin/env bash
# Set-up shared by scripts/bench and scripts/test: looks for what the build needs and installs only what is missing.
# Quiet and without effect when nothing is. Run by itself: scripts/setup.sh [--no-install] [--tests] [--full]
#
#   --no-install   only say what is missing and how to get it
#   --tests        also look for what only the tests want (QEMU)
#   --full         and for what only the long tests want (LaTeX, Chromium, Slurm)
set -euo pipefail

set_up_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf 'set-up: %s\n' "$*" >&2; }

# The oldest compiler that the workspace accepts, from the root Cargo.toml.
required_rust() { sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$set_up_root/Cargo.toml" | head -n 1; }

# True when version $1 is at least version $2.
version_at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

check_rust() {
    local want have
    want=$(required_rust)
    # A shell that has not read rustup's profile lacks its directory.
    if ! command -v rustc >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/rustc ]]; then
        PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
        export PATH
    fi
    if ! command -v rustc >/dev/null || ! command -v cargo >/dev/null; then
        say "no Rust compiler found; Rust $want or newer is needed. Install it with:"
        say "  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --default-toolchain stable"
        return 1
    fi
    have=$(cd "$set_up_root" && rustc --version | awk '{print $2}')
    if ! version_at_least "${have%%-*}" "$want"; then
        say "rustc is $have, but Rust $want or newer is needed. Update it with:"
        say "  rustup update stable && rustup default stable"
        return 1
    fi
}

has_linker() {
    # The headers count too: a compiler without them links nothing of ours.
    command -v cc >/dev/null &&
        printf '#include <stdio.h>\n#include <linux/userfaultfd.h>\n' | cc -E -x c - >/dev/null 2>&1
}

# The places where bindgen looks.
has_libclang() {
    local directory
    for directory in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"} /usr/lib/llvm*/lib /usr/lib/llvm*/lib64 /usr/lib64 \
        /usr/lib /usr/lib/*-linux-gnu /usr/local/lib /usr/local/llvm*/lib; do
        if compgen -G "$directory/libclang.so*" >/dev/null || compgen -G "$directory/libclang-[0-9]*.so*" >/dev/null; then
            return 0
        fi
    done
    return 1
}

# Where only root has them on the path, they are there all the same.
has_iproute() {
    local PATH=$PATH:/usr/sbin:/sbin
    command -v ip && command -v tc
} >/dev/null

has_qemu() { command -v qemu-system-x86_64 >/dev/null; }

has_latex() {
    local package
    command -v pdflatex >/dev/null && command -v kpsewhich >/dev/null || return 1
    for package in booktabs.sty pgfplots.sty graphicx.sty lmodern.sty textcomp.sty; do
        kpsewhich "$package" >/dev/null || return 1
    done
}

has_chromium() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        if command -v "$name" >/dev/null; then return 0; fi
    done
    return 1
}

has_slurm() { command -v munged && command -v slurmctld && command -v slurmd && command -v sbatch; } >/dev/null

has_initrd() { command -v cpio && command -v gzip && command -v insmod && command -v modinfo; } >/dev/null

package_manager() {
    local manager
    for manager in apt-get dnf pacman; do
        if command -v "$manager" >/dev/null; then
            echo "$manager"
            return
        fi
    done
}

# QEMU's packages, of Debian's backports where those are configured already: their QEMU is the newer one.
qemu_packages() {
    local backports
    backports=$(apt-cache policy 2>/dev/null | sed -n 's/.*n=\([a-z]*-backports\),.*/\1/p' | head -n 1)
    if [[ -n $backports ]] && apt-cache madison qemu-system-x86 2>/dev/null | grep -q -- "$backports/"; then
        echo "qemu-system-x86/$backports qemu-system-common/$backports qemu-system-data/$backports seabios/$backports"
    else
        say "where Debian's backports are configured they bring a newer QEMU, with modes of its own:"
        say "  apt-get install -t \$(lsb_release -cs)-backports qemu-system-x86"
        echo qemu-system-x86
    fi
}

# The packages of package manager $1 that bring $2.
packages_for() {
    case $1:$2 in
    apt-get:linker) echo gcc libc6-dev ;;
    apt-get:libclang) echo libclang-dev ;;
    apt-get:iproute) echo iproute2 ;;
    apt-get:qemu) qemu_packages ;;
    apt-get:latex) echo texlive-latex-base texlive-latex-recommended texlive-pictures lmodern ;;
    apt-get:chromium) echo chromium ;;
    apt-get:slurm) echo slurm-wlm munge ;;
    *:initrd) echo cpio gzip kmod ;;
    dnf:linker) echo gcc glibc-devel kernel-headers ;;
    dnf:libclang) echo clang-devel ;;
    dnf:iproute) echo iproute iproute-tc ;;
    dnf:qemu) echo qemu-system-x86-core ;;
    dnf:chromium) echo chromium ;;
    dnf:latex) echo texlive-scheme-basic texlive-booktabs texlive-pgfplots texlive-lm ;;
    pacman:linker) echo gcc linux-api-headers ;;
    pacman:libclang) echo clang ;;
    pacman:iproute) echo iproute2 ;;
    pacman:qemu) echo qemu-system-x86 ;;
    pacman:chromium) echo chromium ;;
    pacman:latex) echo texlive-basic texlive-latexrecommended texlive-pictures ;;
    esac
}

describe() {
    case $1 in
    linker) echo "a C compiler and linker with the C and kernel headers" ;;
    libclang) echo "libclang, which generates the userfaultfd bindings" ;;
    iproute) echo "ip and tc, which make the network namespaces of link.transport = \"netns\"" ;;
    qemu) echo "qemu-system-x86_64, which is a peer of our engines, and in which the tests boot the guest image a second time" ;;
    latex) echo "pdflatex with booktabs and pgfplots, with which the tests compile a report" ;;
    chromium) echo "Chromium, in which a test opens a report" ;;
    initrd) echo "cpio, gzip, insmod and modinfo, which make a host of another kind for scripts/other-host" ;;
    slurm) echo "Slurm and MUNGE, with which a suite runs as an array of jobs" ;;
    esac
}

install_command() {
    case $1 in
    apt-get) echo apt-get install -y --no-install-recommends ;;
    dnf) echo dnf install -y ;;
    pacman) echo pacman -S --needed --noconfirm ;;
    esac
}

run_install() {
    local manager=$1
    shift
    local -a command
    read -ra command <<<"$(install_command "$manager")"
    if [[ $manager == apt-get ]]; then
        export DEBIAN_FRONTEND=noninteractive
        # A fresh container has no package lists; old lists name versions that are gone.
        if ! compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then
            apt-get update >&2
        elif ! "${command[@]}" "$@" >&2; then
            say "that failed; once more with fresh package lists"
            apt-get update >&2
        else
            return 0
        fi
    fi
    "${command[@]}" "$@" >&2
}

# set_up [--no-install] [--tests] [--full]: fails when something that the build needs is missing afterwards.
set_up() {
    local install=yes tests=no full=no
    while (($#)); do
        case $1 in
        --no-install) install=no ;;
        --tests) tests=yes ;;
        --full) full=yes ;;
        *)
            say "unknown argument $1"
            return 2
            ;;
        esac
        shift
    done

    check_rust || return 1
    if [[ $tests == yes ]] && ! { command -v cargo-fmt && command -v cargo-clippy; } >/dev/null; then
        say "the tests also check format and lints. Install the checkers with:"
        say "  rustup component add rustfmt clippy"
        return 1
    fi

    local -a missing=() needed=(linker libclang iproute)
    if [[ $tests == yes ]]; then needed+=(qemu); fi
    if [[ $full == yes ]]; then needed+=(latex chromium initrd); fi
    # Other distributions have no Slurm among their own packages; the check then skips.
    if [[ $full == yes && $(package_manager) == apt-get ]]; then needed+=(slurm); fi
    local thing
    for thing in "${needed[@]}"; do
        "has_$thing" || missing+=("$thing")
    done
    ((${#missing[@]})) || return 0

    local manager
    manager=$(package_manager)
    local -a packages=()
    for thing in "${missing[@]}"; do
        say "missing: $(describe "$thing")"
        read -ra found <<<"$(packages_for "$manager" "$thing")"
        packages+=(${found[@]+"${found[@]}"})
    done

    if [[ -z $manager ]]; then
        say "this system has none of apt-get, dnf and pacman; install the packages that bring these by hand"
        say "(Debian calls them: $(for thing in "${missing[@]}"; do packages_for apt-get "$thing"; done | tr '\n' ' '))"
    elif [[ $install == no ]]; then
        say "not installing (--no-install); as root: $(install_command "$manager") ${packages[*]}"
    elif ((EUID != 0)); then
        say "only root can install; run: sudo $(install_command "$manager") ${packages[*]}"
    else
        say "installing with $manager: ${packages[*]}"
        run_install "$manager" "${packages[@]}" || say "$manager failed; its message stands above"
    fi

    local status=0
    for thing in "${missing[@]}"; do
        "has_$thing" && continue
        if [[ $thing == qemu && -z ${MIGBENCH_REQUIRE_KVM:-} ]]; then
            say "going on without QEMU: the tests that want it skip"
        elif [[ $thing == iproute && -z ${MIGBENCH_REQUIRE_KVM:-} ]]; then
            say "going on without iproute2: links between network namespaces are refused, and tests that want them skip"
        elif [[ $thing == latex ]]; then
            say "going on without LaTeX: the test that wants it skips"
        elif [[ $thing == chromium ]]; then
            say "going on without Chromium: the test that wants it skips"
        elif [[ $thing == initrd && -z ${MIGBENCH_REQUIRE_KVM:-} ]]; then
            say "going on without them: tests under another KVM are skipped"
        elif [[ $thing == slurm && -z ${MIGBENCH_REQUIRE_KVM:-} ]]; then
            say "going on without Slurm: the check that wants it skips"
        else
            say "still missing: $(describe "$thing")"
            status=1
        fi
    done
    return "$status"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    set_up "$@"
fi
