# A hundred vTPMs at once.
#: state=crowd
. "$VTPM_DIR/lib.sh"

# Half of them each: xenstored lets a domain have 128 watches, and a front end needs two.
crowd() {
    local config=$RIG/crowd-$1.cfg lines number
    lines=$(for number in $(seq 50); do printf '"backend=vtpmmgr,uuid=%s",' "$(uuid_of "crowd $1 $number")"; done)
    printf '%s\n' "name=\"crowd-$1\"" 'type="pvh"' 'kernel="/add/crowd"' memory=8 vcpus=1 "vtpm=[$lines]" \
        'extra="50 3"' 'on_crash="preserve"' >"$config"
    console_mark "crowd-$1"
    xl create -q "$config" || die "crowd $1 was not created"
    wait_console "crowd-$1" "50 connected at once" 300 || die "crowd $1 is not connected"
}

hundred() {
    local config=$RIG/vtpmmgr.cfg
    # As the manager's example, with more memory.
    sed 's/^memory=.*/memory=16/' "$VTPM_DIR/vtpmmgr.cfg" >"$config"
    blank_disk vtpmmgr.img
    console_mark vtpmmgr
    xl create -q "$config" || die "the manager was not created"
    wait_console vtpmmgr "Waiting for commands from vTPM's:" 180 || die "the manager is not ready"
    crowd a
    crowd b
    for name in crowd-a crowd-b; do
        wait_console $name "50 of 50 served, 50 still connected" 600 || die "$name is not served"
    done
    console crowd-a | tail -n 2
    xl list
    stop crowd-a && stop crowd-b || die "the crowd does not go"
    stop vtpmmgr || die "the manager did not shut down"
    console vtpmmgr | grep 'Memory used'
}

scenario "a hundred vTPMs are connected and served at once by a manager in 16 MiB" hundred
echo "all scenarios have run"
