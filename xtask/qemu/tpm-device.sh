# tpm HEX: sends one command to /dev/tpm0 and prints the response. One write, then one read, on the same open file.
tpm() {
    echo "$1" | xxd -r -p >/tmp/command || return
    exec 3<>/dev/tpm0 || return
    dd bs=8192 count=1 2>/dev/null </tmp/command >&3 && dd bs=8192 count=1 2>/dev/null <&3 | xxd -p | tr -d '\n'
    status=$?
    exec 3>&-
    return $status
}
