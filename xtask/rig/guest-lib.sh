# For commands that run in the Linux guest (bash reads this first): raw TPM 1.2 commands, in and out as hex digits.
# Numbers: TPM Main 1.2 revision 116, parts 2 and 3.

# tpm HEX: sends one command to /dev/tpm0 and prints the response. One write, then one read, on the same open file.
tpm() {
    printf %s "$1" | xxd -r -p >/tmp/tpm-command || return
    exec 3<>/dev/tpm0 || return
    dd bs=4096 count=1 status=none </tmp/tpm-command >&3 &&
        dd bs=4096 count=1 status=none <&3 | xxd -p | tr -d '\n'
    local status=$?
    exec 3>&-
    echo
    return $status
}

# ok RESPONSE BYTES: prints the bytes after the 10-byte header when the result is 0, else complains.
payload() {
    if [ "${1:12:8}" != 00000000 ]; then
        echo "TPM error 0x${1:12:8}" >&2
        return 1
    fi
    echo "${1:20}"
}

number() { printf %08x "$1"; }

# pcr_read INDEX
pcr_read() { payload "$(tpm "00c10000000e00000015$(number "$1")")"; }

# pcr_extend INDEX DIGEST(40 hex digits)
pcr_extend() { payload "$(tpm "00c10000002200000014$(number "$1")$2")"; }

# random COUNT
random() {
    local out
    out=$(payload "$(tpm "00c10000000e00000046$(number "$1")")") || return
    echo "${out:8}"
}

# hardware_random COUNT, hardware_pcr INDEX: the same of the machine's chip, through the vTPM and its manager.
hardware_random() {
    local out
    out=$(payload "$(tpm "01c10000000e00000046$(number "$1")")") || return
    echo "${out:8}"
}
hardware_pcr() { payload "$(tpm "01c10000000e00000015$(number "$1")")"; }

# nv_define INDEX SIZE: an area that anyone may use while the NV storage is not locked (permission PPWRITE, no PCRs).
nv_define() {
    local pcrs=0003000000 locality=1f digest
    digest=$(number 0)$(number 0)$(number 0)$(number 0)$(number 0)
    payload "$(tpm "00c100000065000000cc0018$(number "$1")$pcrs$locality$digest$pcrs$locality${digest}001700000001000000$(number "$2")$digest")"
}

# nv_write INDEX HEX, at offset 0
nv_write() {
    local size=$((${#2} / 2))
    payload "$(tpm "00c1$(number $((22 + size)))000000cd$(number "$1")$(number 0)$(number $size)$2")"
}

# nv_read INDEX SIZE, from offset 0
nv_read() {
    local out
    out=$(payload "$(tpm "00c100000016000000cf$(number "$1")$(number 0)$(number "$2")")") || return
    echo "${out:8}"
}

# reload_driver: xen-tpmfront out of the kernel and in again. The device is unbound first, since xenbus keeps the module
# of a bound driver from being unloaded.
reload_driver() {
    local device
    for device in /sys/bus/xen/drivers/*/vtpm-*; do
        basename "$device" >"${device%/*}/unbind" || return
    done
    rmmod xen-tpmfront && [ ! -e /dev/tpm0 ] && modprobe xen-tpmfront && [ -c /dev/tpm0 ]
}
