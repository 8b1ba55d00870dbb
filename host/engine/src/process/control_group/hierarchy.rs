//! Where this process is in the hierarchies of control groups, and where in them it may make groups of its own.

use std::path::{Path, PathBuf};

use fs_err as fs;
use rustix::fs::{Access, access, statfs};

/// What `statfs` says of a hierarchy of version 2. From the kernel's `magic.h`.
const VERSION_2: u64 = 0x6367_7270;
/// The same of version 1.
const VERSION_1: u64 = 0x0027_e0eb;

/// What of a job can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Self; 2] = [Self::Memory, Self::Pids];

    /// As the kernel calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// The group that this process is in, in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) version: Version,
    /// What the hierarchy controls; of version 2 each group says so itself.
    pub(super) controllers: Vec<Controller>,
    /// Where the hierarchy is mounted.
    top: PathBuf,
    /// The folder of the group, there or below.
    group: PathBuf,
}

/// A group below which groups can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    pub(super) folder: PathBuf,
    /// What the groups below it can limit.
    pub(super) controllers: Vec<Controller>,
}

/// The groups of this process.
pub(super) fn own() -> Vec<Own> {
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let mut own = own_of(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    // What is mounted over another mount hides it.
    own.retain(|own| version_at(&own.group) == Some(own.version));
    own
}

/// Whether there is a control group at `path`.
pub(super) fn is_group(path: &Path) -> bool {
    version_at(path).is_some()
}

fn version_at(path: &Path) -> Option<Version> {
    let kind = statfs(path).ok()?.f_type;
    match u64::try_from(kind).ok()? {
        VERSION_1 => Some(Version::One),
        VERSION_2 => Some(Version::Two),
        _ => None,
    }
}

/// The groups that the texts of `/proc/self/mountinfo` and `/proc/self/cgroup` tell of.
fn own_of(mounts: &str, groups: &str) -> Vec<Own> {
    let mut found: Vec<Own> = Vec::new();
    for mount in mounts.lines() {
        let Some((mount, file_system)) = mount.split_once(" - ") else { continue };
        let [kind, _, options] = words(file_system);
        let [_, _, _, root, top] = words(mount);
        let version = match kind {
            "cgroup" => Version::One,
            "cgroup2" => Version::Two,
            _ => continue,
        };
        let controls = |of: &str, controller: Controller| of.split(',').any(|it| it == controller.name());
        let mut controllers = Controller::ALL.to_vec();
        controllers.retain(|it| version == Version::One && controls(options, *it));
        let group = groups.lines().find_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let (of, path) = rest.split_once(':')?;
            let is_it = match version {
                Version::Two => number == "0" && of.is_empty(),
                Version::One => controllers.iter().any(|it| controls(of, *it)),
            };
            is_it.then_some(path)
        });
        let (top, root) = (PathBuf::from(unescaped(top)), unescaped(root));
        // Of a mount that shows another part of the hierarchy nothing can be used.
        let Some(below) = group.and_then(|group| Path::new(group).strip_prefix(&root).ok()) else { continue };
        let own = Own { version, controllers, group: top.join(below), top };
        if own.group.is_absolute() && !found.iter().any(|known| known.group == own.group) {
            found.push(own);
        }
    }
    found
}

/// The first words of `text`; empty ones where it has fewer.
fn words<const N: usize>(text: &str) -> [&str; N] {
    let mut words = text.split(' ');
    [(); N].map(|()| words.next().unwrap_or_default())
}

/// A path as `mountinfo` writes it: white space and backslashes are three octal digits behind a backslash.
fn unescaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                text.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

impl Own {
    /// The nearest group, from this one upwards, in which this process may make groups that can limit `wanted`; else the one
    /// that can limit most of it.
    ///
    /// In version 2, a group that has processes itself gives its children no controllers, so their place is often beside
    /// this process's own group; and whoever moves a process must be allowed to in the group above both.
    pub(super) fn place(&self, wanted: &[Controller]) -> Option<Place> {
        let mut best: Option<Place> = None;
        for folder in self.group.ancestors().take_while(|folder| folder.starts_with(&self.top)) {
            if !is_writable(folder) {
                break;
            }
            let mut controllers = wanted.to_vec();
            controllers.retain(|controller| match self.version {
                Version::One => self.controllers.contains(controller),
                Version::Two => enable(folder, *controller),
            });
            if best.as_ref().is_none_or(|best| best.controllers.len() < controllers.len()) {
                best = Some(Place { version: self.version, folder: folder.to_owned(), controllers });
            }
            // The groups of version 1 all control the same.
            let has_all = best.as_ref().is_some_and(|best| best.controllers.len() == wanted.len());
            if has_all || self.version == Version::One {
                break;
            }
        }
        best
    }
}

fn is_writable(folder: &Path) -> bool {
    let may = |path: &Path, what| access(path, what).is_ok();
    may(folder, Access::WRITE_OK | Access::EXEC_OK) && may(&folder.join("cgroup.procs"), Access::WRITE_OK)
}

/// Sees to it that the groups in the group `folder` of version 2 can limit what `controller` does. Says whether they can.
pub(super) fn enable(folder: &Path, controller: Controller) -> bool {
    let file = folder.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    enabled.split_whitespace().any(|it| it == controller.name())
        || fs::write(&file, format!("+{}", controller.name())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(mounts: &str, groups: &str) -> Vec<(Version, Vec<Controller>, String)> {
        let own = own_of(mounts, groups).into_iter();
        own.map(|own| (own.version, own.controllers, own.group.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn a_group_is_found_by_its_mount() {
        const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n\
                               31 23 0:27 / /tmp rw - tmpfs tmpfs rw\n";
        let two = |path: &str| vec![(Version::Two, vec![], path.to_owned())];
        assert_eq!(
            own(UNIFIED, "0::/user.slice/user@1000.service/app.slice/a:b.scope\n"),
            two("/sys/fs/cgroup/user.slice/user@1000.service/app.slice/a:b.scope")
        );
        assert_eq!(own(UNIFIED, "0::/\n"), two("/sys/fs/cgroup/"));
        // In a folder with odd characters; twice in the same place.
        let odd =
            "1 1 0:1 / /a\\040b\\134c rw - cgroup2 none rw\n1 1 0:1 / /a\\040b\\134c rw - cgroup2 none rw\n";
        assert_eq!(own(odd, "0::/x\n"), two("/a b\\c/x"));
        // A part of the hierarchy: one in which this process is, and another one.
        let part = "1 1 0:1 /docker/1 /cg rw - cgroup2 none rw\n";
        assert_eq!(own(part, "0::/docker/1/x\n"), two("/cg/x"));
        assert_eq!(own(part, "0::/docker/2\n"), []);
        assert_eq!(own(part, "0::/../..\n"), []);
        assert_eq!(own("", "0::/x\n"), []);
        assert_eq!(own(UNIFIED, ""), []);
        assert_eq!(own("cgroup2\n - \n1 - cgroup2\n", "0\n0:\n0::\n"), []);
    }

    /// A folder that looks like a group of version 2 to who reads and writes its files.
    fn group(folder: &Path, controllers: &str, takes_changes: bool) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("cgroup.procs"), "").unwrap();
        let control = folder.join("cgroup.subtree_control");
        if takes_changes {
            fs::write(control, controllers).unwrap();
        } else {
            // As the kernel refuses to change it, since the group has processes.
            fs::create_dir_all(control).unwrap();
        }
    }

    #[test]
    fn the_place_is_above_a_group_with_processes_where_something_is_to_be_limited() {
        let above = std::env::temp_dir().join(format!("loom-hierarchy-{}", std::process::id()));
        let own = above.join("terminal.scope");
        group(&above, "cpu memory", true);
        group(&own, "", false);
        let own = Own { version: Version::Two, controllers: vec![], top: above.clone(), group: own };
        let place = |wanted: &[Controller]| own.place(wanted).map(|place| (place.folder, place.controllers));
        assert_eq!(place(&[]), Some((own.group.clone(), vec![])));
        assert_eq!(place(&[Controller::Memory]), Some((above.clone(), vec![Controller::Memory])));
        assert_eq!(place(&Controller::ALL), Some((above.clone(), Controller::ALL.to_vec())));
        // What cannot be had there, either: then at least its processes can be ended.
        fs::remove_file(above.join("cgroup.subtree_control")).unwrap();
        fs::create_dir(above.join("cgroup.subtree_control")).unwrap();
        assert_eq!(place(&Controller::ALL), Some((own.group.clone(), vec![])));
        // Nobody may be moved there.
        fs::remove_file(own.group.join("cgroup.procs")).unwrap();
        assert_eq!(place(&[]), None);
        fs::remove_dir_all(above).unwrap();
    }

    #[test]
    fn in_a_hybrid_form_each_controller_is_where_it_is_mounted() {
        const MOUNTS: &str = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                              35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                              39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                              40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                              41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "9:name=systemd:/\n8:pids:/p\n4:memory:/m/1\n1:cpu,cpuacct:/\n0::/u\n";
        let place = |path: &str| format!("/sys/fs/cgroup/{path}");
        assert_eq!(
            own(MOUNTS, groups),
            [
                (Version::One, vec![Controller::Memory], place("memory/m/1")),
                (Version::One, vec![Controller::Pids], place("pids/p")),
                (Version::Two, vec![], place("unified/u")),
            ]
        );
        let together = "1 1 0:1 / /cg/both rw - cgroup cgroup rw,pids,memory\n";
        assert_eq!(
            own(together, "3:pids,memory:/x\n"),
            [(Version::One, Controller::ALL.to_vec(), "/cg/both/x".to_owned())]
        );
    }
}
