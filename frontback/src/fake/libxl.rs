//! What libxl writes to xenstore (`libxl_vtpm.c`, `libxl_disk.c` in effect), node by node.

use super::{DOM0, Machine};
use alloc::format;
use alloc::string::String;
use xen_abi::{DomId, Store};

/// A disk's line in the domain's config, as far as the front end can see it.
#[derive(Clone, Copy, Debug)]
pub struct VbdOptions {
    /// Mode `w` (or else `r`).
    pub writable: bool,
}

fn front(domain: DomId, kind: &str, devid: u32) -> String {
    format!("/local/domain/{domain}/device/{kind}/{devid}")
}

fn back(backend: DomId, kind: &str, domain: DomId, devid: u32) -> String {
    format!("/local/domain/{backend}/backend/{kind}/{domain}/{devid}")
}

impl Machine {
    /// The front end's directory of a vTPM.
    pub fn vtpm_front_dir(&self, fe: DomId, devid: u32) -> String {
        front(fe, "vtpm", devid)
    }

    /// The back end's directory of a vTPM.
    pub fn vtpm_back_dir(&self, fe: DomId, be: DomId, devid: u32) -> String {
        back(be, "vtpm", fe, devid)
    }

    fn attach(
        &self,
        kind: &str,
        fe: DomId,
        be: DomId,
        devid: u32,
        extra_back: &[(&str, &str)],
        extra_front: &[(&str, &str)],
    ) {
        self.domain(fe);
        self.domain(be);
        let (front, back) = (front(fe, kind, devid), back(be, kind, fe, devid));
        let mut inner = self.inner.borrow_mut();
        inner.tree.make(&front, fe, &[be]);
        inner.tree.make(&back, be, &[fe]);
        drop(inner);
        let mut dom0 = self.domain(DOM0);
        let tx = dom0.begin().expect("a transaction");
        let mut put = |dir: &str, name: &str, value: &str| {
            dom0.write(Some(tx), &format!("{dir}/{name}"), value.as_bytes()).expect("dom0 writes");
        };
        put(&back, "frontend", &front);
        put(&back, "frontend-id", &format!("{fe}"));
        put(&back, "online", "1");
        put(&back, "state", "1");
        for (name, value) in extra_back {
            put(&back, name, value);
        }
        put(&front, "backend", &back);
        put(&front, "backend-id", &format!("{be}"));
        put(&front, "state", "1");
        for (name, value) in extra_front {
            put(&front, name, value);
        }
        dom0.end(tx, true).expect("nobody else is at work");
    }

    /// `vtpm=["backend=BE,uuid=UUID"]`, or `xl vtpm-attach`.
    pub fn xl_vtpm_attach(&self, fe: DomId, be: DomId, devid: u32, uuid: &str) {
        let devid_text = format!("{devid}");
        let extra = [("handle", devid_text.as_str()), ("uuid", uuid), ("resume", "False")];
        self.attach("vtpm", fe, be, devid, &extra, &extra[..1]);
    }

    /// The first half of `xl vtpm-detach`: libxl now waits up to ten seconds for state 6.
    pub fn xl_vtpm_detach(&self, fe: DomId, be: DomId, devid: u32) {
        let back = back(be, "vtpm", fe, devid);
        let dom0 = self.domain(DOM0);
        dom0.put(&format!("{back}/online"), "0");
        dom0.put(&format!("{back}/state"), "5");
    }

    /// The second half: the back end reached state 6 (or the wait is over), the front end's directory goes. The back end's stays,
    /// for a back end outside dom0 has to remove it.
    pub fn xl_vtpm_detach_finish(&self, fe: DomId, devid: u32) {
        self.domain(DOM0).remove(None, &front(fe, "vtpm", devid)).expect("dom0 removes");
    }

    /// A `disk=` line.
    pub fn xl_vbd_attach(&self, fe: DomId, be: DomId, vdev: u32, options: VbdOptions) {
        let mode = if options.writable { "w" } else { "r" };
        let vdev_text = format!("{vdev}");
        self.attach(
            "vbd",
            fe,
            be,
            vdev,
            &[("mode", mode), ("dev", "hda"), ("type", "phy"), ("bootable", "1")],
            &[("virtual-device", &vdev_text), ("device-type", "disk")],
        );
    }

    /// `state` of a vTPM's back end.
    pub fn vtpm_back_state(&self, fe: DomId, be: DomId, devid: u32) -> Option<u32> {
        self.read(&format!("{}/state", back(be, "vtpm", fe, devid)))?.parse().ok()
    }

    /// `state` of a vTPM's front end.
    pub fn vtpm_front_state(&self, fe: DomId, devid: u32) -> Option<u32> {
        self.read(&format!("{}/state", front(fe, "vtpm", devid)))?.parse().ok()
    }
}
