# What holds on every chip: first start, restart of the machine, old copies, sealing to PCRs, another machine. For scripts that have
# read lib.sh; $FAMILY is the chip's family, 1.2 or 2.0.
ZERO=0000000000000000000000000000000000000000
ONE=1111111111111111111111111111111111111111

guest() { guest_run "$@" || die "in the guest $1: $2"; }
pcr() { guest "$1" "pcr_read $2"; }

first_start() {
    start_stack g1
    console vtpmmgr | grep -F "TPM $FAMILY chip" || die "the manager does not say what its chip is"
    guest g1 'tpm_version 2>/dev/null' | grep 'TPM 1.2 Version Info' || die "no tpm_version"
    same "PCR 10 at first" "$(pcr g1 10)" $ZERO
    guest g1 "pcr_extend 10 $ONE" >/dev/null
    same "PCR 10 extended" "$(pcr g1 10)" "$(printf %s $ZERO$ONE | xxd -r -p | sha1sum | cut -c1-40)"
    guest g1 'nv_define 0x1001 8 && nv_write 0x1001 0123456789abcdef'
    same "NV data" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
}

# The chip behind the vTPM answers in the form of TPM 1.2 whatever it is.
chip_through_vtpm() {
    local one two
    need_guest g1
    one=$(guest g1 'hardware_random 16') || die "no random bytes of the chip"
    two=$(guest g1 'hardware_random 16')
    [ ${#one} = 32 ] && [ "$one" != "$two" ] || die "random bytes are not random: $one $two"
    one=$(guest g1 'hardware_pcr 0') || die "no PCR of the chip"
    [ ${#one} = 40 ] && [ "$one" != $ZERO ] || die "the firmware has measured nothing into PCR 0: $one"
}

again() {
    start_stack g1
    same "NV data after the machine's restart" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
    same "PCR 10 after the machine's restart" "$(pcr g1 10)" $ZERO
}

# Everything is shut down, and what is put back was good before it was used once more.
old_manager_disk() {
    need_guest g1
    destroy g1
    stop vtpm-g1 || die "the vTPM did not shut down"
    stop vtpmmgr || die "the manager did not shut down"
    cp "$VTPM_STATE/vtpmmgr.img" "$VTPM_STATE/old-manager.img"
    cp "$VTPM_STATE/g1.img" "$VTPM_STATE/old-g1.img"
    start_stack g1
    guest g1 'nv_write 0x1001 fedcba9876543210'
    destroy g1
    stop vtpm-g1 || die "the vTPM did not shut down"
    stop vtpmmgr || die "the manager did not shut down"
    cp "$VTPM_STATE/old-manager.img" "$VTPM_STATE/before"
    start_manager "" old-manager.img || die "not created"
    refused_manager "older copy" "$VTPM_STATE/old-manager.img" "$VTPM_STATE/before"
}

old_vtpm_disk() {
    need_manager
    cp "$VTPM_STATE/old-g1.img" "$VTPM_STATE/before"
    start_vtpm g1 "" "" old-g1.img || die "not created"
    wait_console vtpm-g1 "No service: " 120 || die "no refusal on the console"
    console vtpm-g1 | grep 'No service: '
    console vtpm-g1 | grep 'No service: ' | grep -q "older or other copy" || die "another reason"
    stop vtpm-g1 || die "the vTPM did not shut down"
    cmp "$VTPM_STATE/before" "$VTPM_STATE/old-g1.img" || die "the disk has changed"
}

# The two fit each other, but not the chip.
both_old_disks() {
    local end
    domain_exists vtpmmgr && { stop vtpmmgr || die "the manager did not shut down"; }
    start_manager "" old-manager.img || die "not created"
    wait_console vtpmmgr "older copy" 180 || die "no refusal on the console"
    start_vtpm g1 "" "" old-g1.img >/dev/null 2>&1
    console vtpmmgr | grep -q "Waiting for commands" && die "it serves"
    domain_exists vtpm-g1 && destroy vtpm-g1
    stop vtpmmgr || die "the manager did not shut down"
    start_stack g1
    same "NV data with the right disks" "$(guest g1 'nv_read 0x1001 8')" fedcba9876543210
    guest g1 'nv_write 0x1001 0123456789abcdef'
}

# A PCR of the chip extended by what the probe extends it by.
extended() {
    if [ "$FAMILY" = 2.0 ]; then
        printf %s "$1$(printf '5a%.0s' $(seq 32))" | xxd -r -p | sha256sum | cut -c1-64
    else
        printf %s "$1$(printf '5a%.0s' $(seq 20))" | xxd -r -p | sha1sum | cut -c1-40
    fi
}

# condition FILE VALUE: in the guest, a file of PCR values that says what PCR 14 is to be.
condition() {
    local bank=sha1
    [ "$FAMILY" = 2.0 ] && bank=sha256
    guest g1 "echo '{\"format\":\"vtpm-pcrs\",\"version\":1,\"bank\":\"$bank\",\"pcrs\":{\"14\":\"$2\"}}' >/tmp/$1"
}

SEALED="seal_pcrs=14"
# A TPM 1.2 steps one counter from one start of the machine to the next, and that is the main manager's.
[ "$FAMILY" = 2.0 ] || SEALED="$SEALED rollback=off"

# A manager of its own whose root secret is sealed to PCR 14, and a vTPM whose guest is its administrator.
sealed_up() {
    manager_up "$SEALED admin_uuid=$(uuid_of s1) $*" sealed.img
    vtpm_up g1 "" "$(uuid_of s1)" s1.img
    guest_up g1
}
sealed_down() {
    destroy g1
    stop vtpm-g1 || die "the vTPM did not shut down"
    stop vtpmmgr || die "the manager did not shut down"
}

sealed_refused() {
    clear_away
    sealed_up
    guest g1 'nv_define 0x1001 4 && nv_write 0x1001 5ea1ed00'
    vtpmctl recovery-code >"$VTPM_STATE/code" || die "no recovery code: $(cat "$VTPM_STATE/code")"
    sealed_down
    probe extend "$FAMILY" 14
    cp "$VTPM_STATE/sealed.img" "$VTPM_STATE/before"
    start_manager "$SEALED" sealed.img || die "not created"
    refused_manager "PCRs 14 differ" "$VTPM_STATE/sealed.img" "$VTPM_STATE/before"
}

# The disk of the scenario above, with the code that was made then; it seals itself to what the PCRs are now.
sealed_recovered() {
    local code
    code=$(grep -oE '[0-9a-fA-F-]{40,}' "$VTPM_STATE/code" | head -n 1)
    sealed_up "recover=$code"
    same "NV data" "$(guest g1 'nv_read 0x1001 4')" 5ea1ed00
    sealed_down
    sealed_up
    same "NV data without the code" "$(guest g1 'nv_read 0x1001 4')" 5ea1ed00
}

# The next value of PCR 14 is approved beforehand, and then comes true.
sealed_updated() {
    local now next group
    domain_lives g1 || sealed_up
    now=$(vtpmctl --json pcrs --pcrs 14 | tr -d ' \n' | sed -n 's/.*"14":"\([0-9a-f]*\)".*/\1/p')
    next=$(extended "$now")
    group=$(vtpmctl --json group show 0 | tr -d ' \n' | sed -n 's/.*"uuid":"\([0-9a-f-]*\)".*/\1/p')
    [ -n "$now" ] && [ -n "$group" ] || die "vtpmctl says neither PCR 14 nor the group: $(vtpmctl pcrs --pcrs 14; vtpmctl group show 0)"
    condition now "$now"
    condition next "$next"
    vtpmctl group set-key 0 --key /rig/approval-key.pem || die "no approval key"
    vtpmctl sign --key /rig/approval-key.pem --group "$group" --pcrs /tmp/now --pcrs /tmp/next --out /tmp/list || die "not signed"
    vtpmctl group update 0 /tmp/list || die "the signed list was refused"
    sealed_down
    probe extend "$FAMILY" 14
    sealed_up
    same "NV data after the approved change" "$(guest g1 'nv_read 0x1001 4')" 5ea1ed00
    vtpmctl status || die "no status"
    sealed_down
    rm "$VTPM_STATE/code"
}

# Both disks, whole, in a machine with another chip.
moved() {
    cp "$VTPM_STATE/vtpmmgr.img" "$VTPM_STATE/before"
    start_manager || die "not created"
    wait_console vtpmmgr "ERROR" 180 || die "no refusal on the console"
    console vtpmmgr | grep ERROR | grep -iE 'another (machine|chip)|other chip|not belong' || die "another reason"
    console vtpmmgr | grep -q "Waiting for commands" && die "it serves"
    stop vtpmmgr || die "the manager did not shut down"
    cmp "$VTPM_STATE/before" "$VTPM_STATE/vtpmmgr.img" || die "the disk has changed"
}
