# Sourced: which Apicurio Registry, and where it is kept.
VERSION=3.0.9
SHA256=2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43
REGISTRY="$(cache "apicurio-$VERSION")"
