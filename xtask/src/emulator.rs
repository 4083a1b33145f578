//! Boots that the emulated processor spoilt.
//!
//! QEMU's emulation of AMD's virtualization (SVM without KVM) sometimes goes on in guest mode with the hypervisor's registers after a world
//! switch. The guest then shuts down with a triple fault whose instruction pointer and code segment are the hypervisor's,
//! which no guest can bring about: nothing under test has a say in it. Such a boot says nothing about the software, so it is
//! void and done again, once, from the same state. A triple fault at an address of the guest's own is a failure like any other.

/// Where Xen lies in its own address space (x86_64, 0xffff82d000000000 and on), as it prints addresses.
const XEN_TEXT: &str = "[<ffff82d";
/// Xen's code segment, as it prints it in a dump.
const XEN_SEGMENT: &str = "RIP:    e008:";
/// Lines of a dump between its head and the instruction pointer.
const DUMP_HEAD: usize = 8;

/// Whether Xen's log tells of a guest that was left with the hypervisor's registers; the line that says which guest.
pub fn spoilt(log: &str) -> Option<&str> {
    let lines: Vec<&str> = log.lines().collect();
    lines.iter().enumerate().find_map(|(at, line)| {
        let dump = lines.get(at..)?;
        let dump = dump.get(..dump.len().min(DUMP_HEAD))?;
        let hypervisors = |line: &&str| line.contains(XEN_SEGMENT) && line.contains(XEN_TEXT);
        let guests = dump.iter().any(|line| line.contains("CONTEXT: hvm guest"));
        (line.contains("Triple fault") && guests && dump.iter().any(hypervisors)).then_some(*line)
    })
}

#[cfg(test)]
mod tests {
    use super::spoilt;

    const HEAD: &str = "(XEN) HVM46 restore: CPU 0\n(XEN) d1v0 Triple fault - invoking HVM shutdown action 1\n\
                        (XEN) *** Dumping Dom1 vcpu#0 state: ***\n(XEN) ----[ Xen-4.17.7  x86_64  debug=n  Not tainted ]----\n(XEN) CPU:    0\n";
    const CONTEXT: &str = "(XEN) RFLAGS: 0000000000000246   CONTEXT: hvm guest (d1v0)\n(XEN) rax: 000000007fbea000\n";

    #[test]
    fn the_hypervisors_registers_in_a_guest_are_the_emulators_fault() {
        let log = format!("{HEAD}(XEN) RIP:    e008:[<ffff82d0402044a5>]\n{CONTEXT}");
        assert_eq!(spoilt(&log), Some("(XEN) d1v0 Triple fault - invoking HVM shutdown action 1"));
    }

    #[test]
    fn a_guest_that_faults_by_itself_is_not() {
        let own = format!("{HEAD}(XEN) RIP:    0008:[<00000000001044a5>]\n{CONTEXT}");
        let xen = format!("(XEN) RIP:    e008:[<ffff82d0402044a5>]\n{CONTEXT}");
        for log in [own, xen, HEAD.to_string(), String::new()] {
            assert_eq!(spoilt(&log), None);
        }
    }
}
