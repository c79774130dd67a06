#!/bin/sh
# base.sh ROOT - makes a fresh Debian root file system fit for nodes: what a node in namespaces must not do (read the
# kernel's log, set what the kernel has only once, run optional daemons unasked) is switched off.
set -eu
root=$1
for unit in systemd-binfmt.service systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
  systemd-udev-trigger.service systemd-networkd.service systemd-timesyncd.service getty.target console-getty.service \
  apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
  systemd-firstboot.service sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
  sys-fs-fuse-connections.mount dev-hugepages.mount systemd-update-utmp.service; do
  ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done
rm -f "$root/etc/systemd/system/multi-user.target.wants/haproxy.service"
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nReadKMsg=no\nStorage=volatile\n' > "$root/etc/systemd/journald.conf.d/bed.conf"
ln -sfn /dev/null "$root/etc/sysctl.d/50-pid-max.conf"
ln -sfn /dev/null "$root/etc/sysctl.d/99-protect-links.conf"
# A kernel without modules: `modprobe overlay` answers as on one that has the features built in.
if [ ! -e /proc/modules ]; then
  modules=$root/lib/modules/$(uname -r)
  mkdir -p "$modules"
  for module in fs/overlayfs/overlay net/bridge/bridge net/bridge/br_netfilter net/netfilter/nf_conntrack \
    net/netfilter/nf_tables drivers/net/vxlan/vxlan; do
    echo "kernel/$module.ko"
  done > "$modules/modules.builtin"
  : > "$modules/modules.order"
  chroot "$root" depmod "$(uname -r)" 2> /dev/null || true
fi
: > "$root/etc/machine-id"
: > "$root/etc/fstab"
: > "$root/etc/resolv.conf"
rm -f "$root/etc/hostname" "$root"/var/cache/apt/archives/*.deb
rm -rf "$root"/var/lib/apt/lists/*
