// Only for the definition of CiliumNetworkPolicy, which is a file in this module.
module devplane.example/cilium

go 1.24

require github.com/cilium/cilium v1.20.2
