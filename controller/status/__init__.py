"""What the mesh tells the authors of objects: status conditions (S31) and Kubernetes Events."""
