"""x"""
from edgekit.report.data import Run
def page(run: Run) -> str:
    return ""
