# The same machine again: what its TPM 1.2 gives its vTPMs, old copies of the disks, sealing to PCRs. Then its disks in another machine.
#: boots=3 moved=3
. "$VTPM_DIR/lib.sh"
FAMILY=1.2
. "$VTPM_DIR/chip-lib.sh"

case $BOOT in
1)
    scenario "random bytes and PCRs of the chip" chip_through_vtpm
    scenario "an older copy of the manager's disk is refused" old_manager_disk
    scenario "an older copy of a vTPM's disk is refused" old_vtpm_disk
    scenario "older copies of both disks are refused" both_old_disks
    ;;
2)
    scenario "sealed to PCR 14: after an extend the manager refuses and names the PCR" sealed_refused
    scenario "the recovery code opens the disk and seals it to the present PCRs" sealed_recovered
    scenario "a signed list approves the next value of PCR 14 beforehand" sealed_updated
    ;;
3)
    scenario "both disks in a machine with another chip are refused" moved
    ;;
esac
echo "all scenarios have run"
