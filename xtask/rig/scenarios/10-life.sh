# First boot: a blank chip and blank disks. What a guest can rely on while its vTPM lives.
. "$VTPM_DIR/lib.sh"
ZERO=0000000000000000000000000000000000000000
ONE=1111111111111111111111111111111111111111
# SHA-1 of 40 bytes: the zero value extended with ONE.
EXTENDED=$(printf %s $ZERO$ONE | xxd -r -p | sha1sum | cut -c1-40)

guest() { guest_run "$@" || die "in the guest $1: $2"; }
pcr() { guest "$1" "pcr_read $2"; }
extend() { guest "$1" "pcr_extend $2 $ONE" >/dev/null; }

# smoke NAME MEMORY WORDS: a domain with the image that shows the machine at work (crates/xen-guest).
smoke() {
    printf '%s\n' "name=\"$1\"" 'type="pvh"' 'kernel="/add/xen-guest-smoke"' "memory=$2" vcpus=1 'iomem=["fed40,5"]' \
        "extra=\"$3\"" 'on_crash="destroy"' >"$RIG/$1.cfg"
    console_mark "$1"
    xl create -q "$RIG/$1.cfg"
}

machine() {
    smoke smoke 4 works || die "not created"
    wait_console smoke "all works" 60 || die "something does not work"
    wait_gone smoke || die "the domain did not end"
    console smoke | grep -q '^Info: line 299 ' && console smoke | grep -q '^Info: event channels work' ||
        die "output is missing"
    smoke smoke 8 stack || die "not created"
    wait_console smoke ": stack overflow" 60 || die "no report"
    wait_gone smoke || die "the domain did not crash"
}

# The lender lends to the domain that is made next.
lending() {
    local lender
    smoke lender 8 lend || die "not created"
    wait_console lender "Info: lent " 60 || die "nothing was lent"
    lender=$(xl domid lender)
    smoke borrower 8 "borrow $lender $(console lender | sed -n 's/^Info: lent //p')" || die "not created"
    same "the borrower's number" "$(xl domid borrower)" $((lender + 1))
    wait_console lender "lending works" 60 || die "no end"
    wait_console borrower "borrowing works" 60 || die "no end"
}

stack() { start_stack g1; }

version() {
    local table
    need_guest g1
    table=$(guest g1 'tpm_version 2>/dev/null')
    echo "$table"
    echo "$table" | grep -q 'TPM 1.2 Version Info' && echo "$table" | grep -q 'Chip Version: *1\.2\.'
}

extending() {
    need_guest g1
    same "PCR 10 at first" "$(pcr g1 10)" $ZERO
    extend g1 10
    same "PCR 10 extended" "$(pcr g1 10)" "$EXTENDED"
    same "PCR 11 untouched" "$(pcr g1 11)" $ZERO
}

reload() {
    local before
    need_guest g1
    extend g1 10
    before=$(pcr g1 10)
    guest g1 reload_driver
    same "PCR 10 after the driver was loaded again" "$(pcr g1 10)" "$before"
}

nv() {
    need_guest g1
    guest g1 'nv_define 0x1001 8 && nv_write 0x1001 0123456789abcdef'
    same "NV data" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
}

# The guest asks Xen for a reboot; xl makes a new domain of it.
reboot_guest() {
    local old new end
    need_guest g1
    end=$((SECONDS + 60))
    old=$(xl domid g1)
    extend g1 12
    console_mark g1
    guest_send g1 'reboot -f' >/dev/null
    new=$old
    until [ -n "$new" ] && [ "$new" != "$old" ]; do
        ((SECONDS < end)) || die "no reboot"
        sleep 0.2
        new=$(xl domid g1 2>/dev/null)
    done
    wait_console g1 @@READY 120 || die "the guest did not come back"
    same "PCR 10 after a reboot" "$(pcr g1 10)" $ZERO
    same "PCR 12 after a reboot" "$(pcr g1 12)" $ZERO
    same "NV data after a reboot" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
}

# The vTPM holds a command of g1 when g1 is destroyed.
killed_mid_command() {
    need_guest g1
    xl pause vtpm-g1
    guest_send g1 'random 16' >/dev/null
    sleep 2
    destroy g1
    xl unpause vtpm-g1
    start_guest g1 || die "the vTPM does not serve the next guest"
    same "NV data" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
}

detach() {
    local before end
    need_guest g1
    extend g1 10
    before=$(pcr g1 10)
    xl vtpm-detach g1 0 || die "vtpm-detach failed"
    same "/dev/tpm0 after vtpm-detach" "$(guest g1 'ls /dev/tpm0 2>/dev/null || echo none')" none
    xl vtpm-attach g1 backend=vtpm-g1 || die "vtpm-attach failed"
    end=$((SECONDS + 30))
    until guest_run g1 '[ -c /dev/tpm0 ]'; do
        ((SECONDS < end)) || die "no /dev/tpm0 after vtpm-attach"
        sleep 0.5
    done
    same "PCR 10 after detach and attach" "$(pcr g1 10)" "$before"
}

two_guests() {
    local first second one two
    need_guest g1
    need_guest g2
    same "PCR 10 of the second guest" "$(pcr g2 10)" $ZERO
    guest_run g2 'nv_read 0x1001 8' && die "the second guest sees the first one's NV data"
    # Both at once, fifteen extends each, of different registers.
    first=$(guest_send g1 "for i in \$(seq 15); do pcr_extend 13 $ONE || exit 1; done; pcr_read 13")
    second=$(guest_send g2 "for i in \$(seq 15); do pcr_extend 14 $ONE || exit 1; done; pcr_read 14")
    one=$(guest_answer g1 "$first" 300 | tail -n 1) || die "g1's extends"
    two=$(guest_answer g2 "$second" 300 | tail -n 1) || die "g2's extends"
    local want=$ZERO
    for _ in $(seq 15); do want=$(printf %s "$want$ONE" | xxd -r -p | sha1sum | cut -c1-40); done
    same "g1's PCR 13" "$one" "$want"
    same "g2's PCR 14" "$two" "$want"
    same "g1's PCR 14" "$(pcr g1 14)" $ZERO
    same "g2's PCR 13" "$(pcr g2 13)" $ZERO
}

one_destroyed() {
    local before
    need_guest g1
    need_guest g2
    extend g1 10
    before=$(pcr g1 10)
    destroy g2 vtpm-g2
    same "PCR 10 of the other guest" "$(pcr g1 10)" "$before"
}

vtpm_again() {
    need_vtpm g1
    destroy g1
    stop vtpm-g1 || die "the vTPM did not shut down"
    vtpm_up g1
    guest_up g1
    same "NV data with a new vTPM domain" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
    destroy g1 vtpm-g1
    vtpm_up g1
    guest_up g1
    same "NV data after the vTPM was destroyed" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
}

manager_again() {
    need_vtpm g1
    destroy g1
    stop vtpm-g1 || die "the vTPM did not shut down"
    stop vtpmmgr || die "the manager did not shut down"
    manager_up
    vtpm_up g1
    guest_up g1
    same "NV data with a new manager domain" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
    destroy g1 vtpm-g1 vtpmmgr
    start_stack g1
    same "NV data after the manager was destroyed" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
}

# tool COMMAND [TEXT]: a command with tpm-tools in the guest, whose output must have TEXT. A password is read from standard
# input where there is no terminal.
tool() {
    local out
    out=$(guest_run g1 "$1") || die "in the guest: $1: $out"
    echo "$out" | grep -qF -- "$2" || die "in the guest: $1: '$2' is missing in: $out"
}

tools() {
    need_guest g1
    tool tpm_selftest "TPM Test Results: 00"
    tool tpm_getpubek "Key Size:          2048 bits"
    tool 'tpm_takeownership -y -z'
    guest_run g1 'tpm_takeownership -y -z' && die "a second owner"
    tool 'printf %s "a secret" >/tmp/plain && tpm_sealdata -z -i /tmp/plain -o /tmp/sealed'
    tool 'tpm_unsealdata -z -i /tmp/sealed' "a secret"
    tool 'tpm_nvdefine -y -i 0x1010 -s 8 -p "OWNERREAD|OWNERWRITE"' "Successfully created"
    tool 'tpm_nvwrite -z -i 0x1010 -d 12345678' "Successfully wrote 8 bytes"
    tool 'tpm_nvread -z -i 0x1010' "31 32 33 34 35 36 37 38"
    tool 'tpm_nvinfo -n' 0x00001010
    tool 'tpm_nvrelease -y -i 0x1010' "Successfully released"
    tool 'tpm_restrictpubek -r -z'
    tool 'tpm_getpubek -z' "Key Size:          2048 bits"
    tool 'tpm_resetdalock -z'
    tool "printf 'captain\\ncaptain\\n' | setsid tpm_changeownerauth -o -z"
    guest_run g1 'tpm_resetdalock -z' && die "the former owner's password still works"
    tool "printf 'captain\\n' | setsid tpm_changeownerauth -o -r"
    tool 'tpm_clear -z' "Successfuly Cleared"
    guest_run g1 'tpm_unsealdata -z -i /tmp/sealed' && die "unsealed after the clearing"
    same "NV data of nobody's" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
}

# Power fails while the guest writes one number after another; the next start looks for what was acknowledged.
power_cut() {
    need_guest g1
    guest g1 'nv_define 0x1002 4 && nv_write 0x1002 c0ffee00 && nv_define 0x1003 4'
    extend g1 10
    guest_send g1 'for i in $(seq 1000); do nv_write 0x1003 $(printf %08x $i) && echo "written $i" || exit 1; done'
    wait_console g1 "written 5" 300 || die "the guest does not write"
}

scenario "an image has memory, time, xenstore, event channels and a console on Xen" machine
scenario "pages are lent to another domain and taken back" lending
scenario "manager, vTPM and guest come up on blank disks" stack
scenario "tpm_version prints the TPM 1.2 table" version
scenario "an extend changes the PCR as it should" extending
scenario "PCRs survive rmmod and modprobe of xen-tpmfront" reload
scenario "NV data can be written and read" nv
scenario "a guest reboot resets PCRs and keeps NV data" reboot_guest
scenario "a guest destroyed in mid-command leaves its vTPM serving" killed_mid_command
scenario "vtpm-detach and vtpm-attach" detach
scenario "two guests with two vTPMs do not disturb each other" two_guests
scenario "one of them destroyed, the other works on" one_destroyed
scenario "NV data survives a new vTPM domain, stopped or destroyed" vtpm_again
scenario "NV data survives a new manager domain, stopped or destroyed" manager_again
scenario "tpm-tools work in the guest: ownership, sealing, NV, passwords, clearing" tools
scenario "a guest writes while the machine's power is cut" power_cut
cut_power
