# A TPM 2.0 behind the CRB: the tour, a restart of the whole machine.
#: tpm=2.0 interface=crb state=tpm20-crb boots=2
. "$VTPM_DIR/lib.sh"
FAMILY=2.0
. "$VTPM_DIR/chip-lib.sh"

case $BOOT in
1)
    scenario "TPM 2.0, crb: manager, vTPM and guest come up on blank disks" first_start
    scenario "TPM 2.0, crb: random bytes and PCRs of the chip in the form of TPM 1.2" chip_through_vtpm
    ;;
2)
    scenario "TPM 2.0, crb: NV data survives a restart of the whole machine, PCRs do not" again
    ;;
esac
echo "all scenarios have run"
