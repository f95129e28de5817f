# As on a machine of somebody's: containers leave out documents, and their services are not restarted. An index of the manual
# takes seconds.
rm -f /etc/dpkg/dpkg.cfg.d/* /usr/sbin/policy-rc.d /var/lib/man-db/auto-update
