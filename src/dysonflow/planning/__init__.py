"""From the configuration to what is to be made: studies, graph, resources, audit."""
