"""The node of ComfyUI for AdaCache and ForecastCache. ComfyUI imports this folder from its custom_nodes."""

from .node import CacheNode

NODE_CLASS_MAPPINGS = {"OpenSoraAdaCache": CacheNode}
NODE_DISPLAY_NAME_MAPPINGS = {"OpenSoraAdaCache": "AdaCache / ForecastCache"}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
