#!/bin/sh
# Starts a DHCP client, and is what that runs at each event:
#
#   lease.sh LINK PROTOCOL busybox udhcpc ...          started by isthmus; PROTOCOL is that of the default route, or none
#   lease.sh EVENT                                     by udhcpc, the lease in the environment
#
# An address has the lifetime of its lease, so that the kernel takes it away when nobody renews it. A refusal (nak) ends
# it at once (RFC 2131, 4.4.5), and so does giving it back (deconfig). That the client begins with a deconfig too is no
# matter inside a namespace, but the host, whose lease is never given back, keeps its address then.
# Source: busybox, networking/udhcp/dhcpc.c, udhcp_run_script.
set -e

if [ $# -gt 1 ]; then
    interface=$1
    ISTHMUS_ROUTE=$2
    export ISTHMUS_ROUTE
    shift 2
    # The lease that the link has already is asked for again.
    old=$(ip -4 -oneline address show dev "$interface" dynamic | sed -n '1s/.* inet \([0-9.]*\).*/\1/p')
    exec "$@" -i "$interface" -s "$0" ${old:+-r "$old"}
fi

case $1 in
deconfig)
    [ "$ISTHMUS_ROUTE" = dhcp ] || ip -4 address flush dev "$interface" dynamic
    ;;
nak)
    ip -4 address flush dev "$interface" dynamic
    ;;
bound | renew)
    ip -4 address replace "$ip/$mask" broadcast "${broadcast:-+}" dev "$interface" valid_lft "$lease" preferred_lft "$lease"
    [ "$ISTHMUS_ROUTE" != none ] || exit 0
    for one in $router; do # the first
        ip -4 route show default dev "$interface" | grep -q "via $one " ||
            ip -4 route replace default via "$one" dev "$interface" proto "$ISTHMUS_ROUTE"
        break
    done
    ;;
esac
