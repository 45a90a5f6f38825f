"""Run the ``medfuse`` command for 3D Slicer: plain Python, without Slicer, Qt, VTK or medfuse itself."""
