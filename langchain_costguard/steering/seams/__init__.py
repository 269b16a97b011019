"""The hosts' doors: middleware, a model, nodes, and the installation into a graph that exists."""
