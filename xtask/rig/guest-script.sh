# cargo xtask run --guest SCRIPT: the stack, then the script in the guest; its output and status are passed on.
. "$VTPM_DIR/lib.sh"
start_stack g1
id=$(guest_send g1 'cd /root; exec bash /guest-script') || die "the guest takes no commands"
shown=0
until console g1 | grep -q "^@@END $id "; do
    domain_exists g1 || die "the guest ended"
    sleep 0.2
    console g1 | sed -n "/^@@BEGIN $id\$/,/^@@END $id /{/^@@/d;p}" >/run/rig/now
    # Without the last line: it may still be growing, or be the empty one before the end mark.
    lines=$(($(wc -l </run/rig/now) - 1))
    ((lines > shown)) && sed -n "$((shown + 1)),${lines}p" /run/rig/now && shown=$lines
done
guest_answer g1 "$id" >/run/rig/now
status=$?
sed -n "$((shown + 1)),\$p" /run/rig/now
exit $status
