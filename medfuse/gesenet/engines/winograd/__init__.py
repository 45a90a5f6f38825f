"""Run the network with Winograd convolutions on the tiles that masks and air leave, compiled by Numba."""
