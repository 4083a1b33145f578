# The tour: manager, vTPM and a Linux guest on real Xen; the guest uses its TPM 1.2.
. "$VTPM_DIR/lib.sh"
note "dom0 is up: $(xl info | sed -n 's/^xen_version *: /Xen /p'), Linux $(uname -r)"
start_stack g1
xl list
xl vtpm-list g1

show() {
    echo
    echo "g1# $1"
    guest_run g1 "$1" || die "in the guest: $1"
}

show 'cat /sys/class/tpm/tpm0/device/modalias; grep . /sys/class/tpm/tpm0/tpm_version_major'
# tpm-tools' tpm_version writes a few bytes of its stack to its error output.
show 'tpm_version 2>/dev/null'
show 'echo "PCR 10: $(pcr_read 10)"'
before=$(guest_run g1 'pcr_read 10') || die "PCR 10 cannot be read"
show 'echo "extended with $(echo measured | sha1sum | cut -c1-40)"; pcr_extend 10 $(echo measured | sha1sum | cut -c1-40)'
show 'echo "PCR 10: $(pcr_read 10)"'
after=$(guest_run g1 'pcr_read 10') || die "PCR 10 cannot be read"
want=$( (printf %s "$before"; printf 'measured\n' | sha1sum | cut -c1-40 | tr -d '\n') | xxd -r -p | sha1sum | cut -c1-40)
[ "$after" = "$want" ] || die "PCR 10 should now be $want"
show 'echo "random: $(random 16)"'
one=$(guest_run g1 'random 16') && two=$(guest_run g1 'random 16') || die "no random bytes"
[ ${#one} = 32 ] && [ "$one" != "$two" ] || die "random bytes are not random: $one $two"

echo
destroy g1
stop vtpm-g1 || die "the vTPM did not shut down"
stop vtpmmgr || die "the manager did not shut down"
note "all of it worked"
