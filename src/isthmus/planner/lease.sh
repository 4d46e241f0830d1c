#!/bin/sh
# Starts a DHCP client, and is what that runs at each event:
#
#   lease.sh LINK PROTOCOL busybox udhcpc ...          started by isthmus; PROTOCOL is that of the default route, or none
#   lease.sh EVENT                                     by udhcpc, the lease in the environment
#   lease.sh LINK none dhcpcd                          started by isthmus for IPv6
#   lease.sh                                           by dhcpcd, the event and the lease in the environment
#
# An address has the lifetime of its lease, so that the kernel takes it away when nobody renews it. A refusal (nak) ends
# it at once (RFC 2131, 4.4.5), and so does giving it back (deconfig). That the client begins with a deconfig too is no
# matter inside a namespace, but the host, whose lease is never given back, keeps its address then.
# Source: busybox, networking/udhcp/dhcpc.c, udhcp_run_script.
#
# For a member, ISTHMUS_CLIENT is the folder of its client: what the lease says of resolvers goes there, and when it has
# changed ISTHMUS_FOLLOW is run, which brings the files of names in line; not while isthmus starts or ends the client
# itself (no argv yet, or no more), and sees to it.
#
# dhcpcd sees to IPv6 addresses itself, and takes them away when it gives them back. It keeps files by the link's name,
# which every namespace has: each gets folders of its own, gone with its mount namespace. Its DUID is made of the MAC,
# which is the member's own, and so the next one asks as the same client. It passes nothing of its environment on.
# Source: dhcpcd.conf(5), dhcpcd-run-hooks(8); dhcpcd 9 src/script.c.
set -e

if [ "$3" = dhcpcd ]; then
    command -v dhcpcd >/dev/null || exit 127
    mkdir -p /run/dhcpcd /var/lib/dhcpcd # as it does itself
    mount -t tmpfs none /run/dhcpcd
    mount -t tmpfs none /var/lib/dhcpcd
    export -p >/run/dhcpcd/environment
    printf '%s\n' 'duid ll' release noipv6rs ia_na 'timeout 0' "script $0" \
        'option dhcp6_name_servers, dhcp6_domain_search' >/run/dhcpcd/isthmus.conf
    exec dhcpcd -6 --config /run/dhcpcd/isthmus.conf --waitip=6 "$1"
fi

if [ $# -gt 1 ]; then
    interface=$1
    ISTHMUS_ROUTE=$2
    export ISTHMUS_ROUTE
    shift 2
    # The lease that the link has already is asked for again.
    old=$(ip -4 -oneline address show dev "$interface" dynamic | sed -n '1s/.* inet \([0-9.]*\).*/\1/p')
    exec "$@" -i "$interface" -s "$0" ${old:+-r "$old"}
fi

# Keeps the resolver's file, of which the first line names the address: another address is another text.
keep() {
    [ -n "$ISTHMUS_CLIENT" ] || return 0
    file=$ISTHMUS_CLIENT/resolver
    [ "$1" != "$(cat "$file" 2>/dev/null)" ] || return 0
    printf '%s\n' "$1" >"$file.new" && mv "$file.new" "$file"
    [ ! -e "$ISTHMUS_CLIENT/argv" ] || "$ISTHMUS_PYTHON" -I -S -c "$ISTHMUS_FOLLOW" </dev/null &
}

resolver() {
    echo "# by DHCP, with $ip"
    [ -z "${search:-$domain}" ] || echo "search" ${search:-$domain}
    for one in $dns; do
        echo "nameserver $one"
    done
}

if [ -n "$reason" ]; then
    . /run/dhcpcd/environment
    case $reason in
    BOUND6 | RENEW6 | REBIND6 | REBOOT6)
        ip=$new_dhcp6_ia_na1_ia_addr1 dns=$new_dhcp6_name_servers search=$new_dhcp6_domain_search
        keep "$(resolver)"
        ;;
    EXPIRE6 | RELEASE6 | STOP6)
        keep ""
        ;;
    esac
    exit 0
fi

case $1 in
deconfig)
    [ "$ISTHMUS_ROUTE" = dhcp ] || ip -4 address flush dev "$interface" dynamic
    keep ""
    ;;
nak)
    ip -4 address flush dev "$interface" dynamic
    keep ""
    ;;
bound | renew)
    ip -4 address replace "$ip/$mask" broadcast "${broadcast:-+}" dev "$interface" valid_lft "$lease" preferred_lft "$lease"
    if [ "$ISTHMUS_ROUTE" != none ]; then
        for one in $router; do # the first
            ip -4 route show default dev "$interface" | grep -q "via $one " ||
                ip -4 route replace default via "$one" dev "$interface" proto "$ISTHMUS_ROUTE"
            break
        done
    fi
    keep "$(resolver)"
    ;;
esac
