"""The built-in controllers: what a cluster does with Deployments, Services, Namespaces and owners by itself.

Every controller is level-driven: a watch only says *which* object to look at, `reconcile(key)` reads the
present state and moves it towards the wanted one. They use the in-process `Api` alone and know nothing of
the node. `run.start_controllers` starts them all.
"""
