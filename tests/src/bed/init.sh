#!/bin/sh
# init.sh - the first process of a bed's node: inside its namespaces, still on the machine's own root. Makes the node's
# root file system, moves into it and becomes systemd. All settings come by environment:
#   FOLDER  the node's folder (upper, work, var or var.img, root)    LOWER  read-only layers, top first
#   NAME    the node's host name                                     V1     cgroup hierarchies of version 1 ("" on pure version 2)
set -eu
root=$FOLDER/root
read -r pid rest < /proc/self/stat # this procfs is the machine's, so the pid is the one that the machine knows
echo "$pid" > "$FOLDER/pid.new" && mv "$FOLDER/pid.new" "$FOLDER/pid"
while [ ! -e "$FOLDER/go" ]; do sleep 0.01; done
hostname "$NAME"

mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$FOLDER/upper,workdir=$FOLDER/work" "$root"
# A file system of its own below /var: overlayfs cannot be the upper layer of containerd's overlayfs.
if [ -e "$FOLDER/var.img" ]; then mount -o loop "$FOLDER/var.img" "$root/var"; else mount --bind "$FOLDER/var" "$root/var"; fi
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,size=64k,nosuid dev "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm" "$root/dev/mqueue" "$root/dev/net"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
for device in null zero full random urandom tty kmsg fuse net/tun; do
  [ -e "/dev/$device" ] || continue
  : > "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mkdir -p "$root/run/lock" "$root/run/bed"

if [ -z "$V1" ]; then
  mount -t cgroup2 -o nsdelegate cgroup2 "$root/sys/fs/cgroup" 2> /dev/null || mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
  for hierarchy in $V1; do
    mkdir "$root/sys/fs/cgroup/$hierarchy"
    case $hierarchy in
      unified) mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified" ;;
      systemd) mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd" ;;
      *) mount -t cgroup -o "$hierarchy" cgroup "$root/sys/fs/cgroup/$hierarchy" ;;
    esac
  done
fi

# Settings that a kernel has once for all namespaces, and that a kubelet or systemd writes: private copies.
for setting in vm/overcommit_memory vm/panic_on_oom vm/max_map_count kernel/panic kernel/panic_on_oops \
  kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  [ -e "/proc/sys/$setting" ] || continue
  copy=$root/run/bed/$(echo "$setting" | tr / .)
  cat "/proc/sys/$setting" > "$copy"
  mount --bind "$copy" "$root/proc/sys/$setting"
done
# A start must look like a boot of its own.
cat /proc/sys/kernel/random/uuid > "$root/run/bed/boot_id"
mount --bind -o ro "$root/run/bed/boot_id" "$root/proc/sys/kernel/random/boot_id"

mount -o remount,bind,ro "$root/sys" # keeps udev away; /sys/fs/cgroup below stays writable
cd "$root"
mkdir -p .old
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
mount --make-rshared /
exec env -i container=bed PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb /sbin/init
