# Figures from real Xen: the time from xl create to readiness, memory, and commands per second in the guest.
. "$VTPM_DIR/lib.sh"
now() { local up _; read -r up _ </proc/uptime; echo "$up"; }
span() { awk "BEGIN { printf \"%.1f s\", $2 - $1 }"; }

begin=$(now)
manager_up >/dev/null
echo "manager, first start (takes ownership, makes its keys): $(span "$begin" "$(now)")"
begin=$(now)
vtpm_up g1 >/dev/null
echo "vTPM, first start (makes its endorsement key): $(span "$begin" "$(now)")"
stop vtpm-g1 || die "the vTPM did not shut down"
begin=$(now)
vtpm_up g1 >/dev/null
echo "vTPM, later starts: $(span "$begin" "$(now)")"
start_guest g1 || die "the guest did not come up"

begin=$(now)
start_vtpm g2 || die "vtpm-g2 was not created"
dir=/local/domain/$(xl domid vtpm-g2)/device/vtpm/0
until [ "$(xenstore-read "$dir/state")" = 4 ]; do sleep 0.1; done
echo "xl create of a vTPM to Connected at the manager: $(span "$begin" "$(now)")"
destroy vtpm-g2

xl list
for command in 'pcr_read 10' 'random 32' "pcr_extend 10 $(printf %040d 0)"; do
    out=$(guest_run g1 "read -r a _ </proc/uptime; for i in \$(seq 20); do $command || exit 1; done >/dev/null; read -r b _ </proc/uptime; echo \$a \$b" 600) ||
        die "in the guest: $command"
    echo "$out" | awk -v what="${command%% *}" '{ printf "%s in the guest (bash and dd included): %.1f per second\n", what, 20 / ($2 - $1) }'
done
begin=$(now)
stop vtpm-g1 >/dev/null 2>&1
echo "xl shutdown of a vTPM: $(span "$begin" "$(now)")"
destroy g1
stop vtpmmgr >/dev/null 2>&1
for name in vtpm-g1 vtpmmgr; do
    echo "$name: $(console $name | sed -n 's/^.*Memory used/memory used/p' | tail -n 1)"
done
