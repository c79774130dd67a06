# What a person types on a new machine before kubeadm: containerd, the images, something at the API's constant name.
set -eu
systemctl daemon-reload
systemctl enable -q --now containerd
systemctl enable -q kubelet
printf 'net.ipv4.ip_forward = 1\n' > /etc/sysctl.d/90-kubernetes.conf
sysctl -q -p /etc/sysctl.d/90-kubernetes.conf
systemctl enable -q haproxy
systemctl restart haproxy
ctr -n k8s.io images import --label io.cri-containerd.pinned=pinned /media/by-hand/images.tar
