# A TPM 2.0 behind the FIFO: the tour, a restart of the whole machine, old copies of the disks.
#: tpm=2.0 interface=tis state=tpm20-tis boots=4 moved=4
. "$VTPM_DIR/lib.sh"
FAMILY=2.0
. "$VTPM_DIR/chip-lib.sh"

case $BOOT in
1)
    scenario "TPM 2.0, tis: manager, vTPM and guest come up on blank disks" first_start
    scenario "TPM 2.0, tis: random bytes and PCRs of the chip in the form of TPM 1.2" chip_through_vtpm
    ;;
2)
    scenario "TPM 2.0, tis: NV data survives a restart of the whole machine, PCRs do not" again
    scenario "an older copy of the manager's disk is refused" old_manager_disk
    scenario "an older copy of a vTPM's disk is refused" old_vtpm_disk
    scenario "older copies of both disks are refused" both_old_disks
    ;;
3)
    scenario "sealed to PCR 14: after an extend the manager refuses and names the PCR" sealed_refused
    scenario "the recovery code opens the disk and seals it to the present PCRs" sealed_recovered
    scenario "a signed list approves the next value of PCR 14 beforehand" sealed_updated
    ;;
4)
    scenario "both disks in a machine with another chip are refused" moved
    ;;
esac
echo "all scenarios have run"
