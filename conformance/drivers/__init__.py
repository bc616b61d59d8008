"""How a case reaches a cluster: any that a kubeconfig leads to.

`world` says which objects stand in a namespace, `reach` carries orders to pods, `site` prepares and
cleans namespaces, `cluster` is the `driver.Mesh` that a case holds. The embedded cluster is a kubeconfig like
any other; the command starts it.
"""
