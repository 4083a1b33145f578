# A manager whose chip is a vTPM of another manager: tpmdriver=tpmfront.
#: state=tpmfront boots=2
. "$VTPM_DIR/lib.sh"
FAMILY=1.2
. "$VTPM_DIR/chip-lib.sh"

# vtpmmgr (the machine's chip) <- vtpm-m2 <- vtpmmgr2 <- vtpm-g1 <- g1
tower() {
    manager_up
    vtpm_up m2
    inner_up
    MANAGER=vtpmmgr2 vtpm_up g1
    guest_up g1
}

first() {
    tower
    guest g1 'tpm_version 2>/dev/null' | grep 'TPM 1.2 Version Info' || die "no tpm_version"
    same "PCR 10 at first" "$(pcr g1 10)" $ZERO
    guest g1 "pcr_extend 10 $ONE" >/dev/null
    guest g1 'nv_define 0x1001 8 && nv_write 0x1001 0123456789abcdef'
    same "NV data" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
}

# The chip's own domain and the managers are made anew while the guest's vTPM waits.
made_anew() {
    local before
    domain_lives g1 || tower
    guest g1 "pcr_extend 11 $ONE" >/dev/null
    before=$(pcr g1 11)
    stop vtpmmgr2 || die "the inner manager did not shut down"
    stop vtpm-m2 || die "the vTPM under it did not shut down"
    vtpm_up m2
    inner_up
    # A new domain is a new back end.
    xl vtpm-detach vtpm-g1 0
    xl vtpm-attach vtpm-g1 backend=vtpmmgr2 uuid="$(uuid_of g1)" || die "vtpm-attach failed"
    guest g1 'nv_write 0x1001 0011223344556677'
    same "PCR 11 of the guest that lives on" "$(pcr g1 11)" "$before"
    # The guest's vTPM as well: it is the same start of the machine, so that the guest does not see fresh PCRs.
    stop vtpm-g1 || die "the vTPM did not shut down"
    xl vtpm-detach g1 0
    MANAGER=vtpmmgr2 vtpm_up g1
    xl vtpm-attach g1 backend=vtpm-g1 || die "vtpm-attach failed"
    same "PCR 11 after its vTPM was made anew" \
        "$(guest g1 'for i in $(seq 50); do [ -c /dev/tpm0 ] && break; sleep 0.2; done; pcr_read 11')" "$before"
    guest g1 'nv_write 0x1001 0123456789abcdef'
}

# Its disk with the machine's own chip.
other_chip() {
    clear_away
    cp "$VTPM_STATE/vtpmmgr2.img" "$VTPM_STATE/before"
    start_manager "" vtpmmgr2.img || die "not created"
    wait_console vtpmmgr ERROR 180 || die "no refusal on the console"
    console vtpmmgr | grep ERROR | grep -iE 'another (machine|chip)|other chip|not belong' || die "another reason"
    console vtpmmgr | grep -q "Waiting for commands" && die "it serves"
    stop vtpmmgr || die "the manager did not shut down"
    cmp "$VTPM_STATE/before" "$VTPM_STATE/vtpmmgr2.img" || die "the disk has changed"
}

restarted() {
    tower
    same "NV data after the machine's restart" "$(guest g1 'nv_read 0x1001 8')" 0123456789abcdef
    same "PCR 10 after the machine's restart" "$(pcr g1 10)" $ZERO
    destroy g1
    stop vtpm-g1 || die "the vTPM did not shut down"
    stop vtpmmgr2 || die "the inner manager did not shut down"
    stop vtpm-m2 || die "the vTPM under it did not shut down"
    stop vtpmmgr || die "the manager did not shut down"
}

case $BOOT in
1)
    scenario "a manager with a vTPM of another manager as its chip, a vTPM and a guest" first
    scenario "the domain of the chip, the manager behind it and the vTPM are made anew under a living guest" made_anew
    scenario "the inner manager's disk is refused with the machine's own chip" other_chip
    ;;
2)
    scenario "all of it after a restart of the whole machine" restarted
    ;;
esac
echo "all scenarios have run"
