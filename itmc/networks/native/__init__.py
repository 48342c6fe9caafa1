"""Kernels of our own for the CPU, in C++, compiled by the machine that they run on."""
