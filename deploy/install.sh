#!/bin/sh
# Installs maskcast as a service on Debian or Ubuntu: deploy/README.md leads through it.
#
#   sudo deploy/install.sh                 install or upgrade, from this checkout and the package index
#   sudo deploy/install.sh --wheels DIR    the same from a folder of wheels, without a network
#   sudo deploy/install.sh --compile       compile the configured models now: no start with compile = true waits for it
#   sudo deploy/install.sh --uninstall     remove the program; configuration, weights and recordings stay
#
# --python PROGRAM names the Python to use. For packagers: DESTDIR=DIR (or --root DIR) lays everything under DIR, makes
# no user, and speaks to no systemd.
set -eu
umask 022

usage() {
    sed -n '3,10s/^# \{0,1\}//p' "$0"
}

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

warn() {
    echo "install.sh: warning: $1" >&2
}

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
root=${DESTDIR:-}
wheels='' python='' action=install
while [ $# -gt 0 ]; do
    case $1 in
        --wheels | --root | --python)
            [ $# -gt 1 ] || fail "$1 needs a value; --help shows how" 2
            case $1 in --wheels) wheels=$2 ;; --root) root=$2 ;; --python) python=$2 ;; esac
            shift
            ;;
        --uninstall) action=uninstall ;;
        --compile) action=compile ;;
        --help | -h) usage && exit 0 ;;
        *) fail "$1: no such option; --help shows which there are" 2 ;;
    esac
    shift
done
[ -z "$root" ] || { mkdir -p "$root" && root=$(CDPATH='' cd -- "$root" && pwd); }
home=/opt/maskcast                        # final location of the program
venv=$root$home                           # where this script installs it
config=$root/etc/maskcast
[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "must be run as root: sudo $0"

here_systemd() { # whether systemd runs and manages this installation
    [ -z "$root" ] && [ -d /run/systemd/system ]
}

find_python() {
    for program in ${python:-python3.12 python3.11 python3}; do
        if "$program" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$program"
            return
        fi
    done
    fail "${python:-python3}: needs Python 3.11 or newer; on Ubuntu 22.04: apt-get install python3.11 python3.11-venv python3.11-dev"
}

check_python() {
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python cannot make virtual environments: apt-get install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
}

check_disk() { # PyTorch with CUDA takes 7 GB; an upgrade needs less
    needed=8
    [ ! -e "$venv/bin/maskcast" ] || needed=3
    folder=$venv
    while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
    free=$(($(df -Pk "$folder" | awk 'NR == 2 { print $4 }') / 1000000))
    [ "$free" -ge "$needed" ] || fail "$home needs $needed GB of disk, $free GB are free at $folder; make room there"
}

check_gpu() {
    if ! driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null); then
        warn "no NVIDIA driver answers (nvidia-smi): the CPU will do the work, slowly; install the driver, then run this again"
        return
    fi
    echo "NVIDIA driver $(echo "$driver" | head -n 1)"
    header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    { command -v cc >/dev/null && [ -e "$header" ]; } ||
        fail "torch.compile needs a C compiler and $header: apt-get install gcc libc6-dev $("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')"
}

check_wheels() {
    [ -n "$wheels" ] || return 0
    [ -d "$wheels" ] || fail "--wheels $wheels: no such folder"
    wheels=$(CDPATH='' cd -- "$wheels" && pwd)
    ls "$wheels"/maskcast-*.whl >/dev/null 2>&1 ||
        fail "--wheels $wheels: holds no maskcast-*.whl; make it with: pip wheel --wheel-dir DIR ."
}

install_program() {
    # a venv of another Python version cannot be reused
    [ ! -e "$venv/bin/python" ] || [ "$("$venv/bin/python" -V 2>&1)" = "$("$python" -V 2>&1)" ] || rm -rf "$venv"
    "$python" -m venv "$venv"
    export SAM2_BUILD_CUDA=0 PIP_DISABLE_PIP_VERSION_CHECK=1
    if [ -n "$wheels" ]; then
        "$venv/bin/python" -m pip install --quiet --no-index --find-links "$wheels" maskcast
        # also replaces an older build of the same version
        "$venv/bin/python" -m pip install --quiet --no-index --find-links "$wheels" --no-deps --force-reinstall maskcast
    else
        "$venv/bin/python" -m pip install --quiet --upgrade "$checkout"
    fi
    if [ -n "$root" ]; then # the scripts contain the absolute path of their Python
        grep -lI "$venv" "$venv"/bin/* "$venv/pyvenv.cfg" | xargs -r sed -i "s|$venv|$home|g"
    fi
    mkdir -p "$root/usr/local/bin"
    ln -sf "$home/bin/maskcast" "$root/usr/local/bin/maskcast"
}

install_files() {
    install -D -m 644 "$checkout/deploy/maskcast.service" "$root/usr/lib/systemd/system/maskcast.service"
    install -D -m 644 "$checkout/deploy/maskcast.sysusers" "$root/usr/lib/sysusers.d/maskcast.conf"
    keep_or_install maskcast.logrotate "$root/etc/logrotate.d/maskcast" 644
    install -d -m 750 "$config" "$root/var/lib/maskcast"
    [ -d "$config/curve" ] || install -d -m 700 "$config/curve"
    keep_or_install maskcast.toml "$config/maskcast.toml" 640
    [ -z "$root" ] || return 0
    systemd-sysusers maskcast.conf
    chgrp maskcast "$config" "$config/maskcast.toml" # it may contain a camera's password
    chown maskcast:maskcast /var/lib/maskcast "$config/curve" # maskcast keys gives new keys to the folder's owner
}

keep_or_install() { # FILE DESTINATION MODE
    if [ -e "$2" ]; then
        echo "$2 is kept as it is; what has come new: $checkout/deploy/$1"
    else
        install -D -m "$3" "$checkout/deploy/$1" "$2"
    fi
}

check_cuda() {
    [ -n "${driver:-}" ] || return 0
    "$venv/bin/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null ||
        warn "PyTorch cannot use the GPU: driver $driver is too old for CUDA $("$venv/bin/python" -c 'import torch; print(torch.version.cuda)')"
}

next_steps() {
    echo "maskcast is in $home; next:"
    echo "  1. say what to watch for: editor /etc/maskcast/maskcast.toml"
    echo "  2. fetch the weights:     runuser -u maskcast -- env HF_HOME=/var/lib/maskcast/huggingface maskcast models fetch"
    echo "  3. start it:              systemctl enable --now maskcast"
    echo "with compile = true the first start compiles for minutes; to have that done before: $0 --compile"
}

compile_models() {
    [ -x "$venv/bin/python" ] || fail "maskcast is not installed in $venv; install it first: sudo $0"
    if here_systemd; then # as the service runs, so that it finds what was compiled
        environment=$(systemctl show maskcast.service --property=Environment --value)
        runner='runuser -u maskcast -g maskcast -G video --'
        install -d -m 750 -o maskcast -g maskcast /var/cache/maskcast
    else
        environment=$(sed -n "s|=/var/|=$root/var/|g; s|^Environment=||p" "$root/usr/lib/systemd/system/maskcast.service")
        runner=''
    fi
    cd "$root/var/lib/maskcast"
    # shellcheck disable=SC2086 # both are lists of words
    $runner env $environment "$venv/bin/python" -m daemon models compile --config "$config/maskcast.toml"
}

uninstall() {
    if here_systemd && systemctl cat maskcast.service >/dev/null 2>&1; then
        systemctl disable --quiet --now maskcast.service
    fi
    rm -rf "$venv" "$root/usr/local/bin/maskcast" "$root/usr/lib/systemd/system/maskcast.service" \
        "$root/usr/lib/sysusers.d/maskcast.conf" "$root/etc/logrotate.d/maskcast" "$root/var/cache/maskcast"
    if here_systemd; then systemctl daemon-reload; fi
    echo "maskcast is removed; to forget everything: rm -r $config $root/var/lib/maskcast $root/var/log/maskcast"
}

case $action in
    uninstall)
        uninstall
        exit
        ;;
    compile)
        compile_models
        exit
        ;;
esac
check_python
check_disk
check_gpu
check_wheels
install_program
install_files
check_cuda
if here_systemd; then
    systemctl daemon-reload
    systemctl try-restart maskcast.service # if it runs, restart it with the new program
fi
[ -n "$root" ] || next_steps
