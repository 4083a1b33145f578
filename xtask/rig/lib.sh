# For scripts that run in dom0: starting and watching the domains of the stack. Use it with:  . "$VTPM_DIR/lib.sh"
#
# Domains are named vtpmmgr, vtpm-NAME and NAME. Their configs are the examples of docs/xl; the disks lie in $VTPM_STATE.

RIG=/run/rig
mkdir -p $RIG

# The time since dom0 booted, and a remark.
note() {
    local up _
    read -r up _ </proc/uptime
    echo "[$up] $*"
}

# Ends the script (or the scenario) with the last lines of the consoles of all domains that were started here, those that are
# gone included, and of Xen itself.
die() {
    note "FAILED: $*"
    local mark name
    for mark in "$RIG"/*.mark; do
        [ -e "$mark" ] || continue
        name=$(basename "$mark" .mark)
        echo "--- the end of the console of $name"
        console "$name" | tail -n 8
    done
    echo "--- the end of Xen's own console"
    xl dmesg | tail -n 12
    xl list
    exit 1
}

console_file() { echo "$VTPM_LOGS/console/guest-$1.log"; }

# Remembers where the console of the domain NAME stands; console and wait_console look at what comes after.
console_mark() {
    local size
    size=$(stat -c %s "$(console_file "$1")" 2>/dev/null)
    echo "${size:-0}" >"$RIG/$1.mark"
}

# What the domain NAME has printed since it was started (or since console_mark).
console() {
    local mark
    mark=$(cat "$RIG/$1.mark" 2>/dev/null)
    tail -c "+$((${mark:-0} + 1))" "$(console_file "$1")" 2>/dev/null | tr -d '\r'
}

domain_exists() { xl domid "$1" >/dev/null 2>&1; }

# True while the domain NAME is there and has neither crashed nor stopped.
domain_lives() { xl list "$1" 2>/dev/null | tail -n +2 | grep -q ' [r-][b-][p-]--[d-] '; }

# wait_console NAME TEXT [SECONDS]: waits until the domain has printed TEXT (a fixed string).
wait_console() {
    local end=$((SECONDS + ${3:-90})) alive=1
    while ! console "$1" | grep -qF -- "$2"; do
        if [ -z "$alive" ]; then
            note "$1 ended without printing: $2"
            return 1
        fi
        if ((SECONDS >= end)); then
            note "$1 did not print within ${3:-90} s: $2"
            return 1
        fi
        sleep 0.3
        # What a domain printed last may come a little after its end, so that the console is read once more then.
        domain_lives "$1" || { alive= && sleep 1; }
    done
}

# wait_gone NAME [SECONDS]: waits until the domain is no more.
wait_gone() {
    local end=$((SECONDS + ${2:-60}))
    while domain_exists "$1"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}

# blank_disk FILE: a disk of 2 MiB that has never been used, unless there is one.
blank_disk() { [ -e "$VTPM_STATE/$1" ] || truncate -s 2M "$VTPM_STATE/$1"; }

# set_line FILE KEY VALUE: replaces one line of an xl config.
set_line() {
    grep -v "^$2=" "$1" >"$1.new"
    echo "$2=$3" >>"$1.new"
    mv "$1.new" "$1"
}

# A UUID that depends on the name only.
uuid_of() { printf %s "$1" | md5sum | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12}).*/\1-\2-\3-\4-\5/'; }

# start_manager [EXTRA] [DISK]: the manager; EXTRA stands for the example's extra= line, DISK is a file in $VTPM_STATE.
start_manager() {
    local config=$RIG/vtpmmgr.cfg disk=${2:-vtpmmgr.img}
    sed "s|/vtpmmgr.img|/$disk|" "$VTPM_DIR/vtpmmgr.cfg" >"$config"
    [ -z "$1" ] || set_line "$config" extra "\"$1\""
    blank_disk "$disk"
    console_mark vtpmmgr
    xl create -q "$config"
}

# start_inner [EXTRA] [DISK]: the manager vtpmmgr2, whose chip is the vTPM vtpm-m2 of the manager above. EXTRA is added to the
# example's extra= line.
start_inner() {
    local config=$RIG/vtpmmgr2.cfg disk=${2:-vtpmmgr2.img}
    sed "s|/vtpmmgr2.img|/$disk|" "$VTPM_DIR/vtpmmgr2.cfg" >"$config"
    set_line "$config" extra "\"tpmdriver=tpmfront $1\""
    blank_disk "$disk"
    console_mark vtpmmgr2
    xl create -q "$config"
}

# start_vtpm NAME [EXTRA] [UUID] [DISK]: the vTPM of the guest NAME; DISK is a file in $VTPM_STATE. Its manager is $MANAGER, or vtpmmgr.
start_vtpm() {
    local config=$RIG/vtpm-$1.cfg disk=${4:-$1.img}
    sed "s/vtpm-g1/vtpm-$1/; s|/g1.img|/$disk|" "$VTPM_DIR/vtpm-g1.cfg" >"$config"
    [ -z "$2" ] || set_line "$config" extra "\"$2\""
    set_line "$config" vtpm "[\"backend=${MANAGER:-vtpmmgr},uuid=${3:-$(uuid_of "$1")}\"]"
    blank_disk "$disk"
    console_mark "vtpm-$1"
    xl create -q "$config"
}

# start_guest NAME: the Linux guest NAME with the vTPM vtpm-NAME. Returns when it takes commands.
start_guest() {
    local config=$RIG/$1.cfg
    sed "s/\"g1\"/\"$1\"/; s/vtpm-g1/vtpm-$1/" "$VTPM_DIR/g1.cfg" >"$config"
    console_mark "$1"
    xl create -q "$config" || return
    wait_console "$1" @@READY 120
}

# manager_up, inner_up, vtpm_up NAME, guest_up NAME: start one and wait until it is ready; the script ends if it is not.
manager_up() {
    start_manager "$@" || die "the manager was not created"
    wait_console vtpmmgr "Waiting for commands from vTPM's:" 180 || die "the manager is not ready"
    note "manager ready"
}
inner_up() {
    start_inner "$@" || die "the inner manager was not created"
    wait_console vtpmmgr2 "Waiting for commands from vTPM's:" 240 || die "the inner manager is not ready"
    note "inner manager ready"
}
vtpm_up() {
    start_vtpm "$@" || die "vtpm-$1 was not created"
    wait_console "vtpm-$1" "Waiting for frontend domain to connect.." 180 || die "vtpm-$1 is not ready"
    note "vtpm-$1 ready"
}
guest_up() {
    start_guest "$1" || die "the guest $1 did not come up"
    note "guest $1 ready"
}

# start_stack NAME: manager, vTPM and guest.
start_stack() {
    manager_up
    vtpm_up "$1"
    guest_up "$1"
}

# stop NAME [SECONDS]: asks a manager or vTPM to end, waits for it.
stop() {
    xl shutdown "$1" >/dev/null && wait_gone "$1" "${2:-60}"
}

# destroy NAME...: ends domains at once.
destroy() {
    local name
    for name in "$@"; do
        domain_exists "$name" || continue
        xl destroy "$name"
        wait_gone "$name" 30
    done
}

# guest_send NAME COMMAND: starts a command in the guest and prints the number of the answer.
guest_send() {
    local tty id
    tty=$(xenstore-read "/local/domain/$(xl domid "$1")/console/tty") || return 125
    id=$BASHPID.$RANDOM
    printf 'RUN %s %s\n' "$id" "$(printf '%s\n' "$2" | base64 -w 0)" >"$tty"
    echo "$id"
}

# guest_answer NAME NUMBER [SECONDS]: prints a command's output and returns its status (124: no end in time).
guest_answer() {
    local end=$((SECONDS + ${3:-120})) status
    until status=$(console "$1" | sed -n "s/^@@END $2 //p") && [ -n "$status" ]; do
        if ((SECONDS >= end)) || ! domain_exists "$1"; then
            note "$1: no end of the command"
            return 124
        fi
        sleep 0.1
    done
    console "$1" | sed -n "/^@@BEGIN $2\$/,/^@@END $2 /{/^@@/d;p}" | sed '$ { /^$/d }'
    return "$status"
}

# guest_run NAME COMMAND [SECONDS]: runs a shell command in the guest; its output and status become ours.
guest_run() {
    local id
    id=$(guest_send "$1" "$2") || return
    guest_answer "$1" "$id" "$3"
}

# need_manager, need_vtpm NAME, need_guest NAME: start what does not run yet.
need_manager() { domain_lives vtpmmgr || manager_up; }
need_vtpm() {
    need_manager
    domain_lives "vtpm-$1" || vtpm_up "$1"
}
need_guest() {
    need_vtpm "$1"
    domain_lives "$1" || guest_up "$1"
}

# scenario TITLE FUNCTION: runs one scenario in a shell of its own and says how it went. After a failure no domain is left,
# so that the next scenario starts what it needs.
scenario() {
    note "$1"
    if ( "$2" ) >"$RIG/scenario.log" 2>&1; then
        sed 's/^/    /' "$RIG/scenario.log"
        echo "ok $1"
    else
        sed 's/^/    /' "$RIG/scenario.log"
        echo "FAILED $1"
        clear_away
    fi
}

# clear_away: destroys every domain but dom0, the guests first.
clear_away() {
    local name
    for name in $(xl list | awk 'NR > 2 && $1 !~ /^vtpm/ { print $1 }') vtpmmgr2 \
        $(xl list | awk '$1 ~ /^vtpm-/ { print $1 }') vtpmmgr; do
        domain_exists "$name" || continue
        xl unpause "$name" 2>/dev/null
        destroy "$name" >/dev/null 2>&1
    done
}

# cut_power: the machine loses its power here and now, the end of its script. What follows is the next start's.
cut_power() {
    echo "all scenarios have run"
    touch /host/cut-power
    sleep 600
}

# same WHAT GOT WANTED: the scenario ends if they differ.
same() { [ "$2" = "$3" ] || die "$1: got '$2', wanted '$3'"; }

# refused_manager TEXT [DISK BEFORE]: the manager that was started must say TEXT, must not serve, and must have left its disk as it
# was in the copy BEFORE.
refused_manager() {
    wait_console vtpmmgr "$1" 180 || die "the manager should say: $1"
    console vtpmmgr | grep -F -- "$1"
    console vtpmmgr | grep -q "Waiting for commands" && die "it serves"
    stop vtpmmgr || die "the manager did not shut down"
    [ -z "$2" ] || cmp "$3" "$2" || die "the disk has changed"
}

# probe WORDS: runs the image that drives the chip itself; only while no manager does.
probe() {
    printf '%s\n' 'name="probe"' 'type="pvh"' 'kernel="/add/tis-probe"' memory=8 vcpus=1 'iomem=["fed40,5"]' \
        "extra=\"$*\"" 'on_crash="destroy"' >"$RIG/probe.cfg"
    console_mark probe
    xl create -q "$RIG/probe.cfg" && wait_console probe "passed, " 60 && wait_gone probe
    console probe | grep -q '^Info: 1 passed, 0 failed' || die "the probe failed: $(console probe)"
}

# vtpmctl WORDS: in the guest g1, whose vTPM is the administrator's.
vtpmctl() { guest_run g1 "/add/vtpmctl $*"; }
