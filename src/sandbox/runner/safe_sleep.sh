#!/bin/bash
# Sleeps $1 seconds.
sleep "$1"
