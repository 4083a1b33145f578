# The same machine after its power was cut: what was acknowledged is there, and what must be refused is refused.
. "$VTPM_DIR/lib.sh"
FAMILY=1.2
. "$VTPM_DIR/chip-lib.sh"
DISK=$VTPM_STATE/g1.img

restarted() {
    local last
    start_stack g1
    same "NV data after the machine's restart" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
    same "NV data written last" "$(guest g1 'nv_read 0x1002 4')" c0ffee00
    last=$((16#$(guest g1 'nv_read 0x1003 4')))
    note "the last number written is $last"
    [ "$last" -ge 5 ] || die "the guest was told that 5 is written, and $last is there"
    same "PCR 10 after the machine's restart" "$(guest g1 'pcr_read 10')" $ZERO
}

# The vTPM domain is shut down and made anew while its guest goes on.
under_its_guest() {
    local before
    need_guest g1
    guest g1 "pcr_extend 10 $ONE" >/dev/null
    before=$(guest g1 'pcr_read 10')
    stop vtpm-g1 || die "the vTPM did not shut down"
    xl vtpm-detach g1 0
    vtpm_up g1
    xl vtpm-attach g1 backend=vtpm-g1 || die "vtpm-attach failed"
    same "PCR 10" "$(guest g1 'for i in $(seq 50); do [ -c /dev/tpm0 ] && break; sleep 0.2; done; pcr_read 10')" "$before"
}

# After a vTPM that saved nothing, the guest that was attached must not see fresh PCRs.
under_its_guest_unsaved() {
    need_guest g1
    destroy vtpm-g1
    xl vtpm-detach g1 0
    vtpm_up g1
    xl vtpm-attach g1 backend=vtpm-g1
    if guest_run g1 'for i in $(seq 15); do [ -c /dev/tpm0 ] && break; sleep 0.2; done; pcr_read 10'; then
        die "the vTPM serves an instance whose PCRs it has lost"
    fi
    console vtpm-g1 | grep -q '^Error\|^ERROR\|^Warn' || die "no line about it"
    destroy g1
    guest_up g1
    same "PCR 10 of a new guest" "$(guest g1 'pcr_read 10')" $ZERO
}

# A small domain that wants the vTPM; xl does not create it when the back end refuses.
wants_vtpm() {
    printf '%s\n' 'name="wants"' 'type="pvh"' 'kernel="/usr/lib/xen/boot/vtpm-stubdom"' memory=8 vcpus=1 \
        'vtpm=["backend=vtpm-g1"]' >"$RIG/wants.cfg"
    xl create -q "$RIG/wants.cfg"
}

# The vTPM that was started must say TEXT, must not serve, and must not have touched the disk.
refused() {
    local disk=$1 before=$2 text=$3
    wait_console vtpm-g1 "No service: " 120 || die "no refusal on the console"
    console vtpm-g1 | grep 'No service: '
    console vtpm-g1 | grep 'No service: ' | grep -qF -- "$text" || die "the line should say: $text"
    wants_vtpm >/dev/null 2>&1 && die "there is service"
    console vtpm-g1 | grep -q 'refused: this vTPM does not serve' || die "the front end was not refused"
    stop vtpm-g1 || die "the vTPM did not shut down"
    cmp "$before" "$disk" || die "the disk has changed"
}

wrong_uuid() {
    need_vtpm g1
    destroy g1
    stop vtpm-g1 || die "the vTPM did not shut down"
    cp "$DISK" "$VTPM_STATE/before"
    start_vtpm g1 "" "$(uuid_of another)" || die "not created"
    refused "$DISK" "$VTPM_STATE/before" "the vault belongs to"
}

corrupted() {
    need_manager
    cp "$DISK" "$VTPM_STATE/bad.img"
    # All of both slots but their first sectors.
    dd if=/dev/urandom of="$VTPM_STATE/bad.img" bs=512 seek=17 count=2039 conv=notrunc status=none
    dd if=/dev/urandom of="$VTPM_STATE/bad.img" bs=512 seek=2057 count=2039 conv=notrunc status=none
    cp "$VTPM_STATE/bad.img" "$VTPM_STATE/before"
    start_vtpm g1 "" "" bad.img || die "not created"
    refused "$VTPM_STATE/bad.img" "$VTPM_STATE/before" "damaged"
}

# Format 2 with right checksums, in both copies of the superblock (docs/formats/vault.md).
newer() {
    need_manager
    cp "$DISK" "$VTPM_STATE/new.img"
    local sector
    for sector in 0 8; do
        dd if="$VTPM_STATE/new.img" bs=512 skip=$sector count=1 status=none | head -c 80 >/tmp/head
        printf '\0\0\0\2' | dd of=/tmp/head bs=1 seek=16 conv=notrunc status=none
        (cat /tmp/head; sha256sum /tmp/head | cut -c1-64 | xxd -r -p) |
            dd of="$VTPM_STATE/new.img" bs=512 seek=$sector conv=notrunc status=none
    done
    cp "$VTPM_STATE/new.img" "$VTPM_STATE/before"
    start_vtpm g1 "" "" new.img || die "not created"
    refused "$VTPM_STATE/new.img" "$VTPM_STATE/before" "newer than this software"
}

older_copy() {
    need_manager
    cp "$DISK" "$VTPM_STATE/old.img"
    vtpm_up g1
    guest_up g1
    guest g1 'nv_write 0x1002 0badcafe'
    destroy g1
    stop vtpm-g1 || die "the vTPM did not shut down"
    cp "$VTPM_STATE/old.img" "$VTPM_STATE/before"
    start_vtpm g1 "" "" old.img || die "not created"
    refused "$VTPM_STATE/old.img" "$VTPM_STATE/before" "older or other copy"
}

blank() {
    need_manager
    truncate -s 2M "$VTPM_STATE/empty.img"
    cp "$VTPM_STATE/empty.img" "$VTPM_STATE/before"
    start_vtpm g1 "" "" empty.img || die "not created"
    refused "$VTPM_STATE/empty.img" "$VTPM_STATE/before" "the disk is blank"
}

bad_argument() {
    local extra
    need_manager
    for extra in loglevel=loud colour=blue hwinitpcr=1-x; do
        start_vtpm g1 "$extra" || die "not created"
        cp "$DISK" "$VTPM_STATE/before"
        refused "$DISK" "$VTPM_STATE/before" "${extra%%=*}"
    done
}

unknown_key() {
    need_manager
    stop vtpmmgr || die "the manager did not shut down"
    # A TPM 1.2 steps one counter from one start of the machine to the next, and that is the right manager's.
    manager_up rollback=off other.img
    cp "$DISK" "$VTPM_STATE/before"
    start_vtpm g1 || die "not created"
    refused "$DISK" "$VTPM_STATE/before" "does not know the key"
    stop vtpmmgr || die "the other manager did not shut down"
}

bad_manager_argument() {
    start_manager "owner_auth=maybe" || die "not created"
    cp "$VTPM_STATE/vtpmmgr.img" "$VTPM_STATE/before"
    wait_console vtpmmgr owner_auth 60 || die "no line about the argument"
    console vtpmmgr
    console vtpmmgr | grep -q "Waiting for commands" && die "it serves"
    stop vtpmmgr || die "the manager did not shut down"
    cmp "$VTPM_STATE/before" "$VTPM_STATE/vtpmmgr.img" || die "the disk has changed"
}

bad_manager_disk() {
    cp "$VTPM_STATE/vtpmmgr.img" "$VTPM_STATE/badmgr.img"
    dd if=/dev/urandom of="$VTPM_STATE/badmgr.img" bs=512 seek=17 count=2039 conv=notrunc status=none
    dd if=/dev/urandom of="$VTPM_STATE/badmgr.img" bs=512 seek=2057 count=2039 conv=notrunc status=none
    cp "$VTPM_STATE/badmgr.img" "$VTPM_STATE/before"
    start_manager "" badmgr.img || die "not created"
    wait_console vtpmmgr damaged 120 || die "no line about the damage"
    console vtpmmgr
    console vtpmmgr | grep -q "Waiting for commands" && die "it serves"
    stop vtpmmgr || die "the manager did not shut down"
    cmp "$VTPM_STATE/before" "$VTPM_STATE/badmgr.img" || die "the disk has changed"
}

all_is_well() {
    start_stack g1
    same "NV data" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
    same "NV data written last" "$(guest g1 'nv_read 0x1002 4')" 0badcafe
    destroy g1
    stop vtpm-g1 || die "the vTPM did not shut down"
    stop vtpmmgr || die "the manager did not shut down"
}

scenario "what was acknowledged before the power cut is there, PCRs are not" restarted
scenario "a vTPM that was shut down and started again under its guest keeps its PCRs" under_its_guest
scenario "a vTPM that was destroyed under its guest does not show it fresh PCRs" under_its_guest_unsaved
scenario "the disk of another UUID is refused" wrong_uuid
scenario "a corrupted disk is refused" corrupted
scenario "a disk of a newer format is refused" newer
scenario "an older copy of the disk is refused" older_copy
scenario "a blank disk for a known vTPM is refused" blank
scenario "malformed and unknown extra= arguments of a vTPM are refused" bad_argument
scenario "a manager that does not know the key" unknown_key
scenario "a malformed extra= argument of the manager is refused" bad_manager_argument
scenario "a corrupted manager disk is refused" bad_manager_disk
scenario "after all this the right disks still work" all_is_well
echo "all scenarios have run"
