# Workers of a Typhoon cluster that adopt the bundle: docs/typhoon.md.
# New workers are made by the snippet; existing ones when they are replaced.
module "mercury" {
  source = "git::https://github.com/poseidon/typhoon//google-cloud/fedora-coreos/kubernetes?ref=v1.36.1"

  cluster_name  = "mercury"
  region        = "us-central1"
  dns_zone      = "example.com"
  dns_zone_name = "example-zone"

  ssh_authorized_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExample core"

  worker_count    = 2
  worker_snippets = [file("${path.module}/worker-fcos.bu")]
}

# A pool of its own shows first that all is well.
module "mercury-pool" {
  source = "git::https://github.com/poseidon/typhoon//google-cloud/fedora-coreos/kubernetes/workers?ref=v1.36.1"

  name         = "mercury-pool"
  cluster_name = "mercury"
  region       = "us-central1"
  network      = module.mercury.network_name
  kubeconfig   = module.mercury.kubeconfig

  ssh_authorized_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExample core"

  worker_count = 1
  snippets     = [file("${path.module}/worker-fcos.bu")]
}
