# tpm HEX: sends one command to the TIS registers of QEMU's tpm-tis-device, and prints the response. For kernels without a
# driver. Addresses: the first device on the platform bus of the machine "virt" lies at 0x0c000000; registers: TCG PC Client
# TPM Interface Specification 1.3, section 5.
access=0x0c000000
sts=0x0c000018
fifo=0x0c000024

# wait_for REGISTER WIDTH MASK: until all bits of the mask are set, a minute at the longest.
wait_for() {
    tries=0
    while [ $(($(devmem "$1" "$2") & $3)) -ne $(($3)) ]; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || { echo "register $1 does not show $3"; return 1; }
        [ $tries -lt 20 ] || sleep 0.1
    done
}

# take COUNT: prints so many bytes of the response.
take() {
    left=$1
    while [ "$left" -gt 0 ]; do
        byte=$(devmem $fifo 8) || return
        printf '%s' "${byte#0x}"
        left=$((left - 1))
    done
}

tpm() {
    devmem $access 8 0x02 && wait_for $access 8 0x20 || return
    devmem $sts 32 0x40 && wait_for $sts 32 0x40 || return
    rest=$1
    while [ -n "$rest" ]; do
        tail=${rest#??}
        devmem $fifo 8 "0x${rest%"$tail"}" || return
        rest=$tail
    done
    devmem $sts 32 0x20 && wait_for $sts 32 0x90 || return
    header=$(take 10) || return
    size=${header#????}
    size=$((0x${size%"${size#????????}"}))
    printf '%s' "$header"
    take $((size - 10))
    devmem $sts 32 0x40 && devmem $access 8 0x20
}
